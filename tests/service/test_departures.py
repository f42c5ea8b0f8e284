"""Who left while Redis was away: noted for all workers, recorded once it is back, and nobody's later session is closed by it."""

import http.client
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import prometheus_client as prom
import psutil
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.service.departures import Departure, Departures, commands
from recsys.service.edge import DOUBTED, FINDING_OUT, STOOD_STILL
from recsys.service.requests import NO_EVENT, Event
from recsys.settings import load_settings
from recsys.versions import keyspace
from recsys.versions.functions import LIBRARY
from tests.service.test_service import Stage, serving, wait_until
from tests.support.components import Valkey

PLAY = {"track": 1, "time": 0.5}
HISTORY = keyspace.history_prefix("live")


def last(user: int, digest: bytes = NO_EVENT) -> Event:
    return Event(True, user, 1, 0.5, None, digest)


def users_of(departures: list[Departure]) -> list[int]:
    return sorted(departure.user for departure in departures)


def test_who_has_left_is_noted_until_redis_knows() -> None:
    departures = Departures()
    assert not departures.waiting
    for user in (12, 70, 12):
        departures.note(last(user, b"k" * 16))
    assert departures.waiting
    assert [(each.user, each.event) for each in departures.of([3, 12])] == [(12, b"k" * 16)]
    found = departures.some(10)
    assert users_of(found) == [12, 70]
    assert len(departures.some(1)) == 1
    departures.forget(found)
    assert departures.of([12, 70]) == [] == departures.some(10)
    assert not departures.waiting


def test_who_leaves_again_stays_noted() -> None:
    departures = Departures()
    departures.note(last(3))
    before = departures.some(10)
    time.sleep(0.01)
    departures.note(last(3))
    departures.forget(before)
    assert users_of(departures.some(10)) == [3]


def test_what_one_process_notes_another_one_finds() -> None:
    departures = Departures()
    child = os.fork()
    if not child:
        departures.note(last(2**63 - 1, b"e" * 16))
        os._exit(0)
    os.waitpid(child, 0)
    assert departures.waiting
    (found,) = departures.some(10)
    assert (found.user, found.event) == (2**63 - 1, b"e" * 16)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1, 40, 2**32, 2**63 - 1, 8_000_000_000_000_000])), max_size=40))
def test_notes_of_any_users_are_kept_however_few_places_there_are(acts: list[tuple[bool, int]]) -> None:
    departures = Departures(places=2)
    wanted = set()
    for leaves, user in acts:
        if leaves:
            departures.note(last(user))
            wanted.add(user)
        else:
            departures.forget(departures.of([user]))
            wanted.discard(user)
        assert set(users_of(departures.of([0, 1, 40, 2**32, 2**63 - 1, 8_000_000_000_000_000]))) == wanted
        assert set(users_of(departures.some(100))) == wanted
        assert departures.waiting or not wanted


def test_a_worker_remembers_what_finds_no_place_and_counts_what_it_cannot(caplog: pytest.LogCaptureFixture) -> None:
    before = prom.REGISTRY.get_sample_value("recsys_departures_forgotten_total") or 0.0
    departures = Departures(places=10, own=5)
    for user in range(18):
        departures.note(last(user))
    found: list[Departure] = []
    while taken := departures.some(4):
        assert len(taken) <= 4
        found += taken
        departures.forget(taken)
    assert not departures.waiting
    assert users_of(found) == [*range(10), *range(13, 18)]
    assert prom.REGISTRY.get_sample_value("recsys_departures_forgotten_total") == before + 3
    assert len(caplog.records) == 1


def test_workers_that_note_at_the_same_time_lose_nothing() -> None:
    departures, users = Departures(places=5_000), 500
    children = []
    for worker in range(4):
        children.append(os.fork())
        if not children[-1]:
            for user in range(users):
                departures.note(last(4 * user + worker))
            os._exit(0)
    found: set[int] = set()
    while children or departures.waiting:
        if children and os.waitpid(children[0], os.WNOHANG)[0]:
            children.pop(0)
        taken = departures.some(100)
        found.update(users_of(taken))
        departures.forget(taken)
    assert found == set(range(4 * users))


def test_memory_is_taken_as_notes_come() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    departures = Departures()
    assert process.memory_info().rss - before < 4 * 2**20
    for user in range(1000):
        departures.note(last(user))
    assert process.memory_info().rss - before < 40 * 2**20


@pytest.fixture
def client(valkey: Valkey) -> redis.Redis:
    return keyspace.connect(load_settings(redis_url=valkey.url))


def state_of(client: redis.Redis, user: int) -> tuple[int, int, int] | None:
    """Session, step and whether it is open."""
    state = client.get(f"{HISTORY[keyspace.bucket(user)]}{user}")
    return (int.from_bytes(state[:4], "little"), int.from_bytes(state[4:8], "little"), state[8]) if state else None


@pytest.mark.real
def test_a_departure_closes_only_what_is_older(client: redis.Redis) -> None:
    def close(*departures: Departure) -> None:
        for words, _ in commands(departures, HISTORY, "v", 1000, 5):
            client.execute_command(*words)

    def state(session: int, is_open: int) -> bytes:
        return session.to_bytes(4, "little") + (2).to_bytes(4, "little") + bytes([is_open]) + bytes(17)

    now = time.monotonic_ns() // 1_000_000
    for user, age in ((1, 10), (2, 2)):
        client.set(f"{HISTORY[user]}{user}", state(7, 1), px=1_000_000 - 1000 * age)
    client.set(f"{HISTORY[3]}3", state(7, 0), ex=900)
    # Five seconds ago; the second time it does nothing.
    for _ in range(2):
        close(*[Departure(user, 0, now - 5000, b"e" * 16) for user in (1, 2, 3, 4, 33)])
    assert [state_of(client, user) for user in (1, 2, 3, 4, 33)] == [(7, 3, 0), (7, 2, 1), (7, 2, 0), (5, 0, 0), (5, 0, 0)]
    assert client.ttl(f"{HISTORY[1]}1") > 990


WORKERS, LISTENERS = 3, range(2**62, 2**62 + 16)


@pytest.fixture
def stage(tmp_path: Path, valkey: Valkey) -> Iterator[Stage]:
    with serving(tmp_path, valkey, workers=WORKERS) as stage:
        yield stage


def answers(stage: Stage) -> list[dict]:
    return [record for record in stage.records("live") if not record["degraded"]]


@pytest.mark.real
@pytest.mark.drill("Redis", "away while listeners leave", "whoever serves them next begins a new session, once")
def test_who_left_in_an_outage_begins_a_new_session_at_any_worker(stage: Stage) -> None:
    for user in LISTENERS:
        assert stage.service.post(f"/next/{user}", PLAY)[0] == 200
    first = {record["user"]: record["session"] for record in answers(stage)}
    stage.valkey.kill()
    wait_until(lambda: stage.service.get("/readyz")[0] == 503)
    for user in LISTENERS:
        assert stage.service.post(f"/last/{user}", PLAY)[0] == 200
    stage.valkey.start()
    deadline = time.monotonic() + 20
    for user in LISTENERS:
        # Until Redis is back for the worker that is asked: at once for all of them from then on.
        while len(answers(stage)) < len(LISTENERS) + 1 + user - LISTENERS[0]:
            assert time.monotonic() < deadline
            assert stage.service.post(f"/next/{user}", PLAY)[0] == 200
    time.sleep(1)
    for user in LISTENERS:
        assert stage.service.post(f"/next/{user}", PLAY)[0] == 200
    found = sorted((r["user"], r["session"] - first[r["user"]], r["step"]) for r in answers(stage))
    assert found == [(user, *place) for user in LISTENERS for place in ((0, 0), (1, 0), (1, 1))]


@pytest.mark.real
@pytest.mark.drill("Redis", "hangs while listeners play and leave", "what was given up is not done later; a new session begins")
def test_who_left_while_redis_hung_begins_a_new_session(stage: Stage) -> None:
    for user in LISTENERS:
        assert stage.service.post(f"/next/{user}", PLAY)[0] == 200
    first = {record["user"]: record["session"] for record in answers(stage)}
    assert stage.valkey.process is not None
    stage.valkey.process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(len(LISTENERS)) as pool:
        # Redis gets these, does not answer in time, and would execute them once it goes on.
        assert {status for status, _ in pool.map(lambda user: stage.service.post(f"/next/{user}", PLAY), LISTENERS)} == {200}
        assert {status for status, _ in pool.map(lambda user: stage.service.post(f"/last/{user}", PLAY), LISTENERS)} == {200}
    stage.valkey.process.send_signal(signal.SIGCONT)
    wait_until(lambda: stage.service.get("/readyz")[0] == 200)
    time.sleep(1)
    for user in LISTENERS:
        assert stage.service.post(f"/next/{user}", PLAY)[0] == 200
    found = sorted((r["user"], r["session"] - first[r["user"]], r["step"]) for r in answers(stage))
    assert found == [(user, *place) for user in LISTENERS for place in ((0, 0), (1, 0))]


@pytest.mark.real
@pytest.mark.drill("service", "a worker stands still while listeners give up", "what they gave up is not done later")
def test_a_worker_that_stood_still_does_not_do_what_was_given_up(stage: Stage) -> None:
    assert stage.service.process is not None
    workers = psutil.Process(stage.service.process.pid).children()
    head = b"POST /next/%d HTTP/1.1\r\nHost: h\r\nContent-Length: 25\r\n\r\n"
    kept = http.client.HTTPConnection("127.0.0.1", stage.service.port)
    kept.request("GET", "/healthz")
    kept.getresponse().read()
    for worker in workers:
        worker.suspend()
    for user in LISTENERS:
        with socket.create_connection(("127.0.0.1", stage.service.port)) as gone:
            gone.sendall(head % user + b'{"track": 1, "time": 0.5}')
            if user % 2:  # a connection that is reset, not ended
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    kept.request("POST", f"/next/{max(LISTENERS) + 1}", json.dumps(PLAY))
    time.sleep(STOOD_STILL + 0.5)
    for worker in workers:
        worker.resume()
    assert kept.getresponse().status == 200
    kept.close()
    time.sleep(DOUBTED + 2 * FINDING_OUT)
    assert [record["user"] for record in answers(stage)] == [max(LISTENERS) + 1]
    assert stage.service.post("/next/7", PLAY)[0] == 200


@pytest.mark.real
def test_events_are_not_recorded_after_their_deadline(client: redis.Redis) -> None:
    seconds, _ = cast(tuple[int, int], client.time())
    words = ("FCALL", LIBRARY.function("events"), 2, "recsys:{1}:lists:", f"{HISTORY[1]}1", "", 100, 0)
    event = b"\0" + bytes(8) + NO_EVENT + b"1"
    with pytest.raises(redis.ResponseError, match="LATE"):
        client.execute_command(*words, seconds * 1000 - 1, event)
    assert state_of(client, 1) is None
    client.execute_command(*words, seconds * 1000 + 60_000, event)
    assert state_of(client, 1) == (0, 0, 1)
