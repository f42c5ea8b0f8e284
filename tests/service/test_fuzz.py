"""Thousands of bad requests: each is refused with a helpful body, leaves no log line and changes nothing in Redis."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.logs.record import NO_TRACK
from tests.service.test_service import USERS, Stage, serving
from tests.support.components import Service, Valkey, running

pytestmark = pytest.mark.real

TOKEN = "token-of-the-test"
EXAMPLES = 2500


class Client:
    """One kept connection, opened again when the service hangs up."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)

    def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError):
            self._connection.close()
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("fuzz")
    with (
        running(Valkey(directory, ("--enable-debug-command", "local"))) as valkey,
        serving(directory, valkey, RECSYS_SERVICE_TOKEN=TOKEN) as stage,
    ):
        yield stage


@pytest.fixture(scope="module")
def client(stage: Stage) -> Client:
    return Client(stage.service)


def snapshot(stage: Stage) -> tuple[list[tuple[str, int]], bytes]:
    """Every log file with its size, and Redis' own digest of its data."""
    files = sorted((str(path), path.stat().st_size) for path in Path(stage.logs).rglob("*") if path.is_file())
    return files, stage.client.execute_command("DEBUG", "DIGEST")


not_a_track = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "x" * 513]),
    st.lists(st.integers(), max_size=2),
    st.integers(min_value=NO_TRACK, max_value=2**80),
    st.integers(max_value=-1),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=1),
)
not_a_time = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=10),
    st.floats(min_value=1.0001, allow_nan=False, allow_infinity=False),
    st.floats(max_value=-0.0001, allow_nan=False, allow_infinity=False),
    st.integers(min_value=2),
    st.just([]),
)
not_an_event = st.one_of(st.integers(), st.just(""), st.text(min_size=101, max_size=200), st.lists(st.none(), max_size=1))
bad_fields = st.one_of(
    st.fixed_dictionaries({"track": not_a_track, "time": st.just(0.5)}),
    st.fixed_dictionaries({"track": st.just(1), "time": not_a_time}),
    st.fixed_dictionaries({"track": st.just(1), "time": st.just(1), "event": not_an_event}),
    st.fixed_dictionaries({"track": st.just(1)}),
    st.fixed_dictionaries({"time": st.just(1)}),
)
bad_bodies = st.one_of(
    bad_fields.map(lambda fields: json.dumps(fields).encode()),
    st.binary(max_size=60).filter(lambda data: data.strip()[:1] != b"{"),
    st.integers(min_value=1, max_value=24).map(lambda cut: b'{"track": 1, "time": 0.5}'[:cut]),
    st.sampled_from(
        [
            b'{"track": 1, "time": NaN}',
            b'{"track": 1, "time": Infinity}',
            b'{"track": 1, "time": 1e999}',
            '{"track": 1, "time": 0.5}'.encode("utf-16"),
            b'{"track": 1, "time": 0.5, "event": "\xff"}',
            b"\x00",
            b"[" * 5000,
            b'{"track": 1, "time": 0.5}x',
        ]
    ),
)
nobodies = st.one_of(
    st.integers(min_value=2**63, max_value=2**70).map(str),
    st.integers(max_value=-1).map(str),
    st.integers(min_value=129, max_value=400).map(lambda length: "x" * length),
    st.sampled_from(["", "%FF", "a%C3", "%ED%A0%80", "%C0%80", "%F0%9F%8E%B5" * 33]),
)
bad_runs = st.one_of(
    st.sampled_from(
        ["", "x", "..", "../../etc/passwd", "night", "night.0", "nobody.0.a", "night.x.a", "night.0.", "a.b.c.d", "*.0.a"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=150).filter(lambda run: not run.startswith("night.")),
)
bad_tokens = st.one_of(
    st.sampled_from(["", "Bearer", "Bearer ", "Basic eDp5", TOKEN, f"bearer {TOKEN}", f"Bearer {TOKEN}x"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60),
)
BEARER = {"Authorization": f"Bearer {TOKEN}"}

bad_requests = st.one_of(
    st.tuples(st.sampled_from(["/next/3", "/last/3"]), bad_bodies, st.just({})),
    st.tuples(
        st.builds(str.__add__, st.sampled_from(["/next/", "/last/"]), nobodies),
        st.just(b'{"track":1,"time":1}'),
        st.just({}),
    ),
    st.tuples(st.just("/next/3"), st.just(b'{"track":1,"time":1}'), bad_runs.map(lambda run: {**BEARER, "X-Recsys-Run": run})),
    st.tuples(
        st.just("/next/3"),
        st.just(b'{"track":1,"time":1}'),
        bad_tokens.map(lambda token: {"Authorization": token, "X-Recsys-Run": "night.0.a"}),
    ),
)
bad_events = st.one_of(
    bad_fields.map(lambda fields: {"message": "next", "user": 1, **fields}),
    st.just({"message": "last", "user": 3, "track": 1, "time": 0.5}),  # user 3 twice
    st.builds(lambda m: {"message": m, "user": 1, "track": 1, "time": 0.5}, st.one_of(st.none(), st.integers(), st.just("stop"))),
    st.builds(
        lambda u: {"message": "next", "user": u, "track": 1, "time": 0.5},
        st.one_of(
            st.none(),
            st.sampled_from(["", "-7", str(2**63), "x" * 129]),
            st.booleans(),
            st.integers(max_value=-1),
            st.integers(min_value=2**63),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
    ),
    st.none(),
    st.integers(),
    st.text(max_size=5),
    st.lists(st.none(), max_size=2),
)
GOOD = {"message": "next", "user": 3, "track": 1, "time": 0.5}


def assert_refused(status: int, body: bytes) -> None:
    assert 400 <= status < 500, (status, body)
    error = json.loads(body)["error"]
    assert error["message"]
    assert TOKEN not in error["message"]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(request=bad_requests)
def check_single(client: Client, request: tuple[str, bytes, dict[str, str]]) -> None:
    path, body, headers = request
    assert_refused(*client.send("POST", path, body, headers))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(event=bad_events, place=st.integers(min_value=0, max_value=1))
def check_batch(client: Client, event: object, place: int) -> None:
    events = [GOOD, event] if place else [event, GOOD]
    assert_refused(*client.send("POST", "/batch", json.dumps({"events": events}).encode(), BEARER))


def test_five_thousand_bad_requests_change_nothing(stage: Stage, client: Client) -> None:
    before = snapshot(stage)
    check_single(client)
    check_batch(client)
    many = json.dumps({"events": [{**GOOD, "user": u % USERS} for u in range(5000)]}).encode()
    assert_refused(*client.send("POST", "/batch", many, BEARER))
    assert_refused(*client.send("POST", "/next/3", b'{"pad": "' + b"x" * 2**21 + b'"}', {}))
    assert_refused(*client.send("POST", "/next/3", b"{}", {"X-Pad": "x" * 40_000}))
    assert_refused(*client.send("DELETE", "/next/3", b"", {}))
    assert_refused(*client.send("POST", "/batch", b'{"events": [', BEARER))
    assert snapshot(stage) == before
    assert stage.service.post("/next/3", {"track": 1, "time": 0.5})[0] == 200
