"""HTTP/1.1 for the service: a protocol class that uvicorn runs instead of its own.

A request here is one read, one call of the application and one write; uvicorn's general ASGI path (a task, a scope and two
messages a request) costs more than everything else that the service does. Processes, sockets, signals and graceful shutdown stay
uvicorn's.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

import httptools
import orjson

MAX_HEADERS = 32 * 1024
MAX_QUEUED = 64
#: Seconds that a refused connection stays open; what arrives meanwhile is thrown away.
LINGER = 1.0

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_HEADS = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in _REASONS.items()}
_JSON = b"content-type: application/json\r\ncontent-length: "
_TEXT = b"content-type: text/plain; version=0.0.4\r\ncontent-length: "


class Request(NamedTuple):
    """A whole request; ``run`` and ``authorization`` are the two headers that matter, or None."""

    method: bytes
    path: str
    run: str | None
    authorization: bytes
    body: bytes
    respond: Callable[[int, bytes], None]


class Application(Protocol):
    """What answers requests; ``max_body`` is the greatest size of a body in bytes."""

    max_body: int

    def handle(self, request: Request) -> None:
        """Answer a request: call its ``respond`` once, now or later."""


class _Config(Protocol):
    loaded_app: Application


class _ServerState(Protocol):
    connections: set["HttpProtocol"]


class HttpProtocol(asyncio.Protocol):
    """One connection; its requests are answered in order."""

    def __init__(self, config: _Config, server_state: _ServerState, **_: object) -> None:
        self._app = config.loaded_app
        self._connections = server_state.connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Request] = deque()
        self._busy = False
        self._closing = False
        self._hanging_up = False
        self._refusal = b""
        self._head = False
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._run: str | None = None
        self._authorization = b""
        self._body: list[bytes] = []
        self._size = 0
        self._header_size = 0

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client is gone; an answer under way has nowhere to go."""
        self._connections.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Parse what came; the parser calls the methods below."""
        if self._hanging_up:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is answered as any other; what may follow in another protocol is not read.
            self._hanging_up = True
            self.shutdown()
        except httptools.HttpParserError as error:
            self._refuse(400, f"not an HTTP/1.1 request: {error}")

    # httptools
    def on_message_begin(self) -> None:
        """A request begins."""
        self._reset()

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        self._count_header(len(name) + len(value))
        size = len(name)
        if size == 12 and name.lower() == b"x-recsys-run":
            self._run = value.decode("latin-1")
        elif size == 13 and name.lower() == b"authorization":
            self._authorization = value
        elif size == 6 and name.lower() == b"expect" and self._transport is not None and not self._busy:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the body; one that grows too long is refused at once."""
        self._size += len(body)
        if self._size > self._app.max_body:
            self._refuse(413, f"at most {self._app.max_body} bytes", "body")
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, or queue it behind the one under way."""
        if self._hanging_up:
            return
        if not self._parser.should_keep_alive():
            self._closing = True
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        path = self._url.partition(b"?")[0].decode("latin-1")
        request = Request(self._parser.get_method(), path, self._run, self._authorization, body, self._respond)
        if self._busy:
            self._queue.append(request)
            if len(self._queue) > MAX_QUEUED and self._transport is not None:
                self._transport.close()
        else:
            self._start(request)

    def _count_header(self, size: int) -> None:
        self._header_size += size
        if self._header_size > MAX_HEADERS:
            self._refuse(431, f"at most {MAX_HEADERS} bytes", "headers")

    def _start(self, request: Request) -> None:
        self._busy = True
        self._head = request.method == b"HEAD"
        self._app.handle(request)

    def _respond(self, status: int, body: bytes) -> None:
        """Write the answer of the request under way and go on with the next."""
        transport = self._transport
        self._busy = False
        if transport is None:
            self._queue.clear()
            return
        kind = _JSON if body[:1] == b"{" else _TEXT
        close = b"\r\nconnection: close" if self._closing and not self._queue and not self._refusal else b""
        retry = b"\r\nretry-after: 1" if status == 503 else b""
        shown = b"" if self._head else body
        transport.write(b"%b%b%d%b%b\r\n\r\n%b" % (_HEADS[status], kind, len(body), close, retry, shown))
        if self._queue:
            self._start(self._queue.popleft())
        elif self._refusal:
            self._hang_up(transport)
        elif self._closing:
            transport.close()

    def _refuse(self, status: int, constraint: str, field: str = "request") -> None:
        """Answer something that is no request, after the requests before it, and hang up; what follows is not read."""
        if self._hanging_up:
            return
        self._hanging_up = True
        if self._closing or self._transport is None or self._transport.is_closing():
            return
        body = orjson.dumps(
            {"error": {"field": field, "value": None, "constraint": constraint, "message": f"{field}: {constraint}"}}
        )
        self._refusal = b"%b%b%d\r\nconnection: close\r\n\r\n%b" % (_HEADS[status], _JSON, len(body), body)
        if not self._busy:
            self._hang_up(self._transport)

    def _hang_up(self, transport: asyncio.Transport) -> None:
        """Write the refusal and close, but not before a client that is still sending can have read it."""
        transport.write(self._refusal)
        asyncio.get_running_loop().call_later(LINGER, transport.close)

    # uvicorn
    def shutdown(self) -> None:
        """Close as soon as the request under way has been answered."""
        self._closing = True
        if not self._busy and self._transport is not None:
            self._transport.close()
