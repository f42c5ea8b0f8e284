"""Sessions over HTTP against a server with the original's API: same plays, retries, errors."""

import time
from pathlib import Path

import pytest

from recsys.exceptions import InvalidInputError, SimulationError, UnavailableError
from recsys.schemas import ShardResult
from recsys.simulate.connection import Endpoint, Patience
from recsys.simulate.run import run_shard
from tests.simulate.conftest import OriginalServer, neighbour_policy, random_policy, serving
from tests.support import reference
from tests.support.components import free_port

pytestmark = pytest.mark.slow

EPISODES, SEED = 60, 3
RUN = "night.0.a"


def play(world: Path, server: OriginalServer | str, **changes: object) -> ShardResult:
    url = server if isinstance(server, str) else server.url
    arguments = {"episodes": EPISODES, "seed": SEED, "progress": False} | changes
    return run_shard(world, url, **arguments)


def expected(world: Path, policy: reference.Policy) -> list[tuple]:
    events = reference.all_events(reference.World.read(world), SEED, EPISODES, policy)
    return sorted((message, user, track, time / 100, f"{e}.{s}") for message, user, track, time, e, s in events)


@pytest.mark.parametrize(("batch", "in_flight"), [(0, 1), (0, 32), (1, 2), (5, 3), (1024, 2)])
@pytest.mark.parametrize("shards", [1, 2])
def test_same_plays_over_http(world: Path, batch: int, in_flight: int, shards: int) -> None:
    with serving(random_policy) as server:
        results = [
            play(world, server, batch=batch, in_flight=in_flight, shards=shards, shard=shard, run=RUN) for shard in range(shards)
        ]
        seen = sorted((*event, key) for event, key in zip(server.events, server.keys, strict=True))
    assert seen == expected(world, random_policy)
    assert sum(r.episodes for r in results) == EPISODES
    assert sum(r.next + r.last for r in results) == len(seen)
    assert {r.run for r in results} == {RUN}
    assert server.largest <= batch


def test_an_original_server_is_served_untouched(world: Path) -> None:
    with serving(neighbour_policy) as server:
        play(world, server)
    # The policy looks at user, track and time only through the body, so this is the whole conversation.
    assert set(server.keys) == {None}
    assert not {"X-Recsys-Run", "Authorization"} & {name for headers in server.headers for name in headers}
    assert all(headers["Content-Type"] == "application/json" for headers in server.headers)


def test_run_and_token_are_sent(world: Path) -> None:
    with serving(random_policy) as server:
        play(world, server, run=RUN, token="abc%d")
    assert {(h["X-Recsys-Run"], h["Authorization"]) for h in server.headers} == {(RUN, "Bearer abc%d")}


@pytest.mark.drill("service", "answers 429, 502 and 503 during a simulation", "listeners ask again; the same events")
@pytest.mark.parametrize("batch", [0, 8])
def test_a_service_in_trouble_is_asked_again(world: Path, batch: int) -> None:
    answers = [(503, {"Retry-After": "0"}, b"{}"), (503, {}, b""), (502, {"Connection": "close"}, b"gone"), (429, {}, b"")]
    with serving(random_policy) as server:
        server.faults = answers * 3
        play(world, server, run=RUN, batch=batch)
        seen = sorted((*event, key) for event, key in zip(server.events, server.keys, strict=True))
    assert seen == expected(world, random_policy)


def test_an_answer_that_ends_with_the_connection(world: Path) -> None:
    with serving(random_policy) as server:
        plain = server.answer

        def closing(*arguments):
            status, headers, body = plain(*arguments)
            return status, {**headers, "Connection": "close"}, body

        server.answer = closing
        play(world, server, run=RUN, in_flight=4)
        seen = sorted((*event, key) for event, key in zip(server.events, server.keys, strict=True))
    assert seen == expected(world, random_policy)


def test_a_service_that_stays_away(world: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=rf"refused.* 0 of {EPISODES} episodes had ended; start the service"):
        play(world, f"http://127.0.0.1:{free_port()}", patience=Patience(answer=1, outage=0.3))
    assert time.monotonic() - started < 5


def test_an_outage_is_reported_once(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnavailableError):
        play(world, f"http://127.0.0.1:{free_port()}", patience=Patience(answer=0.4, outage=1))
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(messages) == 1
    assert "trying again for up to 1 s" in messages[0]


@pytest.mark.drill("service", "away for longer than the listeners' patience", "the shard fails and says how far it came")
def test_a_service_that_goes_away_says_how_far_it_came(world: Path) -> None:
    with serving(random_policy) as server:
        plain, answered = server.answer, []

        def failing(*arguments):
            answered.append(1)
            return plain(*arguments) if len(answered) < 200 else (503, {}, b"")

        server.answer = failing
        with pytest.raises(UnavailableError, match=r"it answered 503\); [1-9]\d* of 60 episodes had ended"):
            play(world, server, run=RUN, in_flight=4, patience=Patience(answer=1, outage=0.3))


@pytest.mark.drill("service", "is silent during a simulation", "listeners ask again; every session ends")
def test_an_answer_that_does_not_come(world: Path) -> None:
    with serving(random_policy) as server:
        plain, slow = server.answer, [1]

        def sleeping(*arguments):
            if slow:
                slow.pop()
                time.sleep(1)
            return plain(*arguments)

        server.answer = sleeping
        assert play(world, server, run=RUN, patience=Patience(answer=0.2, outage=20)).episodes == EPISODES


@pytest.mark.parametrize(
    ("status", "body", "batch", "message"),
    [
        (404, b'{"error": {"field": "user", "message": "user is 7: a known user id"}}', 0, "answered 404: user is 7: a known"),
        (500, b"<p>Oops\n</p>", 0, "answered 500: <p>Oops </p>"),
        (400, b"", 4, "answered 400: nothing"),
        (200, b"no", 0, "not JSON: b'no'"),
        (200, b"[]", 0, r"got \[\], which is not a JSON object"),
        (200, b'{"user": -1, "track": 2}', 0, "got an answer for user -1"),
        (200, b"[]", 4, "got no answers"),
        (200, b'{"answers": [{"user": 1}]}', 4, "a batch of 4 events got 1 answers"),
    ],
)
def test_useless_answers(world: Path, status: int, body: bytes, batch: int, message: str) -> None:
    with serving(random_policy) as server:
        server.faults = [(status, {}, body)]
        with pytest.raises(SimulationError, match=message):
            play(world, server, batch=batch, in_flight=1)


@pytest.mark.parametrize("track", [120, -1, None, 1.0, True, "5", 2**40])
@pytest.mark.parametrize("batch", [0, 4])
def test_an_unknown_track_is_named(world: Path, track: object, batch: int) -> None:
    with serving(lambda *play: track) as server, pytest.raises(SimulationError, match="not in the catalogue") as caught:
        play(world, server, batch=batch)
    assert f"track {track!r}," in str(caught.value)


def test_something_else_listens(world: Path) -> None:
    with serving(random_policy) as server:
        server.answer = lambda *a: (200, {"Content-Length": "x"}, b"")
        with pytest.raises(SimulationError, match="does not speak HTTP"):
            play(world, server)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "episodes is 0; it must be from 1"),
        ({"shard": 2, "shards": 2}, "shard is 2; it must be from 0 to 1"),
        ({"shards": 0}, "shards is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"first_episode": -1}, "first_episode is -1"),
        ({"batch": 5000}, "batch is 5000; it must be from 0 .* to 4096"),
        ({"in_flight": -1}, "in_flight is -1"),
        ({"run": "x"}, "run id 'x' is not of the form"),
        ({"token": "a\r\nb"}, "the token has characters"),
    ],
)
def test_bad_arguments(world: Path, changes: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        play(world, "http://127.0.0.1:1", **changes)


@pytest.mark.parametrize("url", ["", "localhost:5000", "https://x", "http://", "http://x:99999", "http://a b", "http://x?y"])
def test_bad_urls(url: str) -> None:
    with pytest.raises(InvalidInputError, match="not of the form http://host:port"):
        Endpoint.parse(url)


def test_urls() -> None:
    assert Endpoint.parse("http://host:81/api/") == ("host", 81, "/api")
    assert Endpoint.parse("http://[::1]") == ("::1", 80, "")
