"""Whatever arrives at a connection, the application gets whole requests alone, limits hold, and nothing falls over."""

import http.client
import random
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.service.requests import MAX_BATCH, MAX_BODY
from recsys.service.worker import MAX_HEAD
from tests.service.test_service import USERS, Stage, serving, wait_until
from tests.support.components import Valkey, running

pytestmark = pytest.mark.real

PLAY = b'{"track": 1, "time": 0.5}'
POST = b"POST /next/3?x=1 HTTP/1.1\r\nHost: h\r\nX-Recsys-Run: night.0.t\r\nContent-Length: 25\r\n\r\n" + PLAY
CHUNKED = b"POST /next/3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
LAST_GET = b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
JAVA = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
MANY = {"max_examples": 100, "deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    tmp_path = tmp_path_factory.mktemp("stage")
    with running(Valkey(tmp_path)) as valkey, serving(tmp_path, valkey, output=tmp_path / "output") as stage:
        yield stage
    assert "Traceback" not in (tmp_path / "output").read_text()


def talk(stage: Stage, *pieces: bytes) -> bytes:
    """What is answered until the service closes the connection."""
    with socket.create_connection(("127.0.0.1", stage.service.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        # A connection may be closed before all is sent, or read.
        with suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                connection.sendall(piece)
        with suppress(ConnectionResetError):
            while data := connection.recv(65_536):
                received += data
        return received


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)]


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(4)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def lines(stage: Stage) -> int:
    return sum(len(stage.records(run)) for run in ("live", "night.0.t"))


def test_requests_arrive_in_any_pieces(stage: Stage) -> None:
    @settings(**MANY)
    @given(seed=st.integers(0, 2**32))
    def check(seed: int) -> None:
        answer = talk(stage, *cut(POST + GET + POST + LAST_GET, random.Random(seed)))
        assert statuses(answer) == [200] * 4
        assert answer.count(b'{"user":3,"track":') == 2
        assert answer.count(b'{"status":"alive"}') == 2

    before = lines(stage)
    check()
    asked = stage.records("night.0.t")
    assert {(record["message"], record["user"], record["track"], record["time"]) for record in asked} == {("next", 3, 1, 0.5)}
    assert lines(stage) - before == 2 * MANY["max_examples"]


def test_spoiled_requests(stage: Stage) -> None:
    @settings(**MANY)
    @given(seed=st.integers(0, 2**32), noise=st.binary(max_size=20))
    def check(seed: int, noise: bytes) -> None:
        chance = random.Random(seed)
        data = bytearray(POST + GET)
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(8)] = noise
        before = lines(stage)
        answer = talk(stage, *cut(bytes(data), chance), LAST_GET * 3)
        assert all(status == 200 or 400 <= status < 500 for status in statuses(answer)), answer
        assert lines(stage) - before == answer.count(b'{"user":3,"track":')

    check()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /next/3 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1) + b"x" * (MAX_BODY + 1), 413),
        (CHUNKED + b"80000\r\n" + b"x" * 0x80000 + b"\r\n80001\r\n" + b"x" * 0x80001 + b"\r\n0\r\n\r\n", 413),
        (b"POST /next/3 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 2 * MAX_HEAD + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"x" * 2 * MAX_HEAD + b" HTTP/1.1\r\n\r\n", 431),
        (b"POST /next/3 HTTP/1.1\r\nHost: h\r\nContent-Length: 25\r\nContent-Length: 26\r\n\r\n" + PLAY, 400),
        (b"POST /next/3 HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost h\n\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
    ],
    ids=["body", "chunks", "announced", "header", "headers", "target", "lengths", "length", "no header", "TLS"],
)
def test_what_is_too_large_or_no_request_is_refused(stage: Stage, data: bytes, status: int) -> None:
    before = lines(stage)
    answer = talk(stage, data, GET)
    assert statuses(answer) == [status]
    assert b"connection: close" in answer
    assert lines(stage) == before


def test_what_begins_as_http_2_is_hung_up_on(stage: Stage) -> None:
    assert b" 200 " not in talk(stage, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", GET)


@pytest.mark.parametrize(
    "head",
    [
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        WEBSOCKET,
        JAVA,
    ],
    ids=["websocket", "whole websocket", "h2c"],
)
def test_an_offer_to_speak_another_protocol_is_not_taken_up(stage: Stage, head: bytes) -> None:
    answer = talk(stage, b"GET /healthz HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n", LAST_GET)
    assert statuses(answer) == [200, 200]
    answer = talk(stage, b"POST /next/3 HTTP/1.1\r\nHost: h\r\n" + head + b"Content-Length: 25\r\n\r\n" + PLAY, LAST_GET)
    assert statuses(answer) == [200, 200]


def test_a_client_that_asks_first_is_told_to_go_on(stage: Stage) -> None:
    asking = b"POST /next/3 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 25\r\n\r\n"
    assert statuses(talk(stage, asking + PLAY, LAST_GET)) == [100, 200, 200]


@pytest.mark.parametrize(
    "method_and_status", [("HEAD", 200), ("DELETE", 405), ("PUT", 405), ("OPTIONS", 405)], ids=lambda both: both[0]
)
def test_other_methods(stage: Stage, method_and_status: tuple[str, int]) -> None:
    method, status = method_and_status
    connection = http.client.HTTPConnection("127.0.0.1", stage.service.port, timeout=20)
    for _ in range(2):
        connection.request(method, "/healthz")
        answer = connection.getresponse()
        assert answer.status == status
        assert bool(answer.read()) == (method != "HEAD")


def test_hundreds_of_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    users = [number % USERS for number in range(400)]
    asked = b"".join(b"POST /next/%d HTTP/1.1\r\nHost: h\r\nContent-Length: 25\r\n\r\n" % user + PLAY for user in users)
    answer = talk(stage, asked, LAST_GET)
    assert [int(user) for user in re.findall(rb'{"user":([0-9]+),', answer)] == users


def test_nothing_is_done_after_connection_close(stage: Stage) -> None:
    before = lines(stage)
    last = POST.replace(b"Host: h", b"Host: h\r\nConnection: close")
    assert statuses(talk(stage, last + POST + POST)) == [200]
    assert lines(stage) == before + 1


NESTED = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/next/3", b"[" * 1000),
        ("/next/3", NESTED),
        ("/next/3", b'{"a":' * 1000 + b"1" + b"}" * 1000),
        ("/next/3", b'{"track": ' + NESTED + b', "time": 1}'),
        ("/next/3", b'{"track": 1, "time": ' + NESTED + b"}"),
        ("/next/3", b'{"track": 1, "time": 1, "event": ' + NESTED + b"}"),
        ("/batch", b'{"events": [' + NESTED + b"]}"),
        ("/batch", b'{"events": {"a": ' + NESTED + b"}}"),
        ("/batch", b'{"events": [{"message": ' + NESTED + b"}]}"),
        ("/batch", b'{"events": [{"message": "next", "user": ' + NESTED + b"}]}"),
    ],
)
def test_deep_json_is_told_as_any_other_bad_body(stage: Stage, path: str, body: bytes) -> None:
    status, answer = stage.service.post(path, body)
    assert status == 400
    assert answer["error"]["message"]
    assert len(answer["error"]["value"]) <= 200


def test_a_batch_may_be_as_large_as_it_is_told(stage: Stage) -> None:
    body = b'{"events": []' + b" " * (MAX_BODY - 14) + b"}"
    assert stage.service.post("/batch", body) == (200, {"answers": []})
    assert stage.service.post("/batch", {"events": [{}] * (MAX_BATCH + 1)})[0] == 400


def test_who_leaves_in_the_middle_leaves_nothing(stage: Stage) -> None:
    assert stage.service.process is not None
    (worker,) = psutil.Process(stage.service.process.pid).children()
    before = worker.num_fds()
    for sent in (b"POST", POST[:-5], CHUNKED + b"5\r\n{", CHUNKED, POST, POST * 50):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", stage.service.port)) as connection:
                connection.sendall(sent)
    wait_until(lambda: worker.num_fds() <= before + 2, 20)
    assert stage.service.get("/healthz")[0] == 200
