"""Whatever arrives at a connection, the protocol hands on whole requests alone, keeps to its limits, and never falls over."""

import asyncio
import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.service.protocol import MAX_HEADERS, MAX_QUEUED, HttpProtocol, Request

POST = b'POST /next/3?x=1 HTTP/1.1\r\nHost: h\r\nX-Recsys-Run: b.0.t\r\nContent-Length: 25\r\n\r\n{"track": 1, "time": 0.5}'
CHUNKED = b"POST /next/3 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written, self.closed = b"", False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class App:
    """Keeps requests; answers them at once, or never."""

    max_body = 1000

    def __init__(self, answers: bool = True) -> None:
        self.requests: list[Request] = []
        self._answers = answers

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        if self._answers:
            request.respond(200, b"{}")


def receive(pieces: list[bytes], app: App) -> Wire:
    async def run() -> Wire:
        wire = Wire()
        protocol = HttpProtocol(SimpleNamespace(loaded_app=app), SimpleNamespace(connections=set()))
        protocol.connection_made(wire)  # type: ignore[arg-type]
        for piece in pieces:
            if not wire.closed:
                protocol.data_received(piece)
        return wire

    return asyncio.run(run())


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(4)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_requests_arrive_in_any_pieces(seed: int) -> None:
    app = App()
    wire = receive(cut(POST + GET + POST, random.Random(seed)), app)
    assert [(r.method, r.path, r.run, r.body) for r in app.requests] == [
        (b"POST", "/next/3", "b.0.t", b'{"track": 1, "time": 0.5}'),
        (b"GET", "/healthz", None, b""),
        (b"POST", "/next/3", "b.0.t", b'{"track": 1, "time": 0.5}'),
    ]
    assert wire.written.count(b"HTTP/1.1 200 OK") == 3


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), noise=st.binary(max_size=20))
def test_spoiled_requests(seed: int, noise: bytes) -> None:
    chance = random.Random(seed)
    data = bytearray(POST + GET)
    at = chance.randrange(len(data))
    data[at : at + chance.randrange(8)] = noise
    app = App()
    wire = receive(cut(bytes(data), chance), app)
    assert all(len(request.body) <= App.max_body for request in app.requests)
    assert wire.written.count(b"HTTP/1.1 200") == len(app.requests)
    assert wire.written.count(b"HTTP/1.1 4") <= 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /next/3 HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, 413),
        (CHUNKED + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501, 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEADERS + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * (MAX_HEADERS + 1) + b" HTTP/1.1\r\n\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
    ],
)
def test_what_is_too_large_or_no_request_is_refused(data: bytes, status: int) -> None:
    app = App()
    wire = receive([data, GET], app)
    assert wire.written.startswith(b"HTTP/1.1 %d" % status)
    assert b"connection: close" in wire.written
    assert [request for request in app.requests if request.path != "/"] == []


def test_a_client_that_does_not_wait_is_cut_off() -> None:
    app = App(answers=False)
    assert receive([GET] * (MAX_QUEUED + 1), app).closed is False
    assert receive([GET] * (MAX_QUEUED + 2), app).closed is True
    assert len(app.requests) == 2


def test_an_offer_to_speak_another_protocol_is_not_taken_up() -> None:
    app = App()
    wire = receive([b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nabc", GET], app)
    assert [request.path for request in app.requests] == ["/"]
    assert wire.written.count(b"HTTP/1.1") == 1
    assert wire.written.startswith(b"HTTP/1.1 200")
    assert wire.closed
