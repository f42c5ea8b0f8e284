"""A small generated world with overrides, policies, and a server with the original's API."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.simulate.play import Plays
from recsys.simulate.world import generate
from tests.support import reference

TRACKS, USERS = 120, 23


def random_policy(user: int, track: int, time: int, episode: int, step: int) -> int:
    return reference.below(TRACKS, 99, episode, step, reference.RECOMMENDATION)


def neighbour_policy(user: int, track: int, time: int, episode: int, step: int) -> int:
    """Repeats tracks and artists often."""
    return (track + 1) % TRACKS if time > 30 else (user * 7 + step % 3) % TRACKS


def stubborn_policy(user: int, track: int, time: int, episode: int, step: int) -> int:
    return user % TRACKS


POLICIES = {p.__name__: p for p in (random_policy, neighbour_policy, stubborn_policy)}


class Recorder:
    """An in-process recommender that follows a policy and keeps the events."""

    def __init__(self, policy: reference.Policy) -> None:
        self.policy = policy
        self.events: list[reference.Event] = []

    def next(self, plays: Plays) -> np.ndarray:
        rows = list(zip(*(column.tolist() for column in plays), strict=True))
        assert len({row[0] for row in rows}) == len(rows), "two sessions of a user at once"
        self.events += [("next", *row) for row in rows]
        return np.array([self.policy(*row) for row in rows])

    def last(self, plays: Plays) -> None:
        self.events += [("last", *row) for row in zip(*(column.tolist() for column in plays), strict=True)]

    @property
    def sorted(self) -> list[reference.Event]:
        return sorted(self.events, key=lambda event: event[4:])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated world whose first users have parameters of their own, and whose listeners like it well."""
    directory = tmp_path_factory.mktemp("worlds") / "small"
    generate(directory, tracks=TRACKS, artists=30, users=USERS, dims=8, seed=5)
    lines = [json.loads(line) for line in (directory / "users.json").read_text().splitlines()]
    for line in lines:
        line["user"] = line["user"] * 3 + 1
        line["consume_bias"] /= 4
    lines[0] |= {"interest_neighbours": 2, "session_budget": 1, "artist_discount_gamma": 0.5}
    lines[1] |= {"interest_neighbours": 500, "session_budget": 9, "interests": [4]}
    lines[2] |= {"artist_discount_gamma": 1, "consume_bias": -3}
    del lines[3]["consume_bias"], lines[3]["consume_sharpness"]
    (directory / "users.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


class OriginalServer:
    """The original API and ``/batch`` over a policy; ``faults`` are answered first, one a request."""

    def __init__(self, policy: reference.Policy) -> None:
        self.policy = policy
        self.events: list[tuple[str, int, int, float]] = []
        self.keys: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[tuple[int, dict[str, str], bytes]] = []
        self.largest = 0
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = owner.answer(self.path, json.loads(body), dict(self.headers))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if headers.get("Connection") == "close":
                    self.close_connection = True
                else:
                    self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that goes away is no news."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, data: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        with self.lock:
            self.headers.append(headers)
            if self.faults:
                return self.faults.pop(0)
            if path == "/batch":
                users = [event["user"] for event in data["events"]]
                assert len(set(users)) == len(users)
                self.largest = max(self.largest, len(users))
                answers = [self.one(event["message"], event["user"], event) for event in data["events"]]
                return 200, {}, json.dumps({"answers": answers}).encode()
            _, message, user = path.split("/")
            return 200, {}, json.dumps(self.one(message, int(user), data)).encode()

    def one(self, message: str, user: int, data: dict[str, Any]) -> dict[str, int]:
        self.events.append((message, user, data["track"], data["time"]))
        self.keys.append(data.get("event"))
        if message == "last":
            return {"user": user}
        episode, step = (int(x) for x in data["event"].split(".")) if "event" in data else (0, 0)
        return {"user": user, "track": self.policy(user, data["track"], round(data["time"] * 100), episode, step)}


@contextmanager
def serving(policy: reference.Policy) -> Iterator[OriginalServer]:
    server = OriginalServer(policy)
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()
