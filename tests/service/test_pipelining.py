"""Requests that a client sends without waiting, as bytes on a socket to a running service: answers leave in their order."""

import re
import socket
from collections.abc import Iterator

import pytest

from tests.service.test_service import Stage, serving
from tests.support.components import Valkey, running

pytestmark = pytest.mark.real

NEXT = b'POST /next/3 HTTP/1.1\r\nHost: h\r\nContent-Length: 25\r\n\r\n{"track": 1, "time": 0.5}'
LAST = b'POST /last/3 HTTP/1.1\r\nHost: h\r\nContent-Length: 25\r\nConnection: close\r\n\r\n{"track": 1, "time": 0.5}'
GET = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
MALFORMED = {
    "no request": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "no version": b"GET / HTTQ\r\n\r\n",
    "no length": b"POST /next/3 HTTP/1.1\r\nHost: h\r\nContent-Length: many\r\n\r\n",
    "large headers": b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    "large body": b"POST /next/3 HTTP/1.1\r\nHost: h\r\nContent-Length: 1100000\r\n\r\n" + b" " * 1_100_000,
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    tmp_path = tmp_path_factory.mktemp("stage")
    with running(Valkey(tmp_path)) as valkey, serving(tmp_path, valkey) as stage:
        yield stage


def statuses(stage: Stage, *requests: bytes) -> list[int]:
    """The statuses that are answered until the service closes the connection."""
    with socket.create_connection(("127.0.0.1", stage.service.port), timeout=10) as connection:
        connection.sendall(b"".join(requests))
        received = b""
        while data := connection.recv(65_536):
            received += data
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received)]


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("before", [[], [NEXT], [NEXT, GET, NEXT]], ids=len)
def test_a_malformed_request_is_answered_after_those_before_it(stage: Stage, before: list[bytes], malformed: bytes) -> None:
    *answered, refused = statuses(stage, *before, malformed)
    assert answered == [200] * len(before)
    assert 400 <= refused < 500


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED.keys())
def test_nothing_is_answered_after_a_malformed_request(stage: Stage, malformed: bytes) -> None:
    first, refused = statuses(stage, NEXT, malformed, GET, GET)
    assert first == 200
    assert 400 <= refused < 500


@pytest.mark.parametrize("after", [GET, MALFORMED["no request"]], ids=["request", "no request"])
def test_nothing_is_answered_after_the_last_request(stage: Stage, after: bytes) -> None:
    assert statuses(stage, NEXT, LAST, after) == [200, 200]
