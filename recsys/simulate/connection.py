"""A thin HTTP/1.1 client connection: bytes of one request out, status and body of its answer in, again and again.

General clients cost more time a request than the service itself does. A :class:`Channel` carries at most one request at a time,
keeps its connection alive, and sends the request again, with back-off, while the service is away.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import orjson

from recsys.exceptions import InvalidInputError, RecsysError, SimulationError, UnavailableError

#: Answers that ask for another try.
RETRIED = frozenset((429, 502, 503, 504))
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


class Endpoint(NamedTuple):
    """Where a service listens; ``prefix`` comes before every path."""

    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """Read ``http://host[:port][/prefix]``.

        Raises:
            InvalidInputError: not of that form.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        if not host or parts.scheme != "http" or parts.query or not url.isascii() or any(c.isspace() for c in url):
            raise InvalidInputError(f"service URL {url!r} is not of the form http://host:port")
        return cls(host, port, parts.path.rstrip("/"))


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds: for one answer, and for a service that is away."""

    answer: float = 10.0
    outage: float = 60.0


class Channel(asyncio.Protocol):
    """One connection, opened when first needed and again when lost.

    Attributes:
        asked: for its owner, what the request under way is about.
        busy: whether a request is under way. trouble: why that had to be sent again, or "".

    Args:
        on_answer: called with this channel and the body of a 200 answer.
        on_error: called once, with what ended the channel: UnavailableError when patience is over, SimulationError for an
            answer that will not improve.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        patience: Patience,
        on_answer: Callable[["Channel", bytes], None],
        on_error: Callable[[RecsysError], None],
    ) -> None:
        self.asked: list[int] = []
        self.busy = False
        self.trouble = ""
        self._endpoint, self._patience = endpoint, patience
        self._on_answer, self._on_error = on_answer, on_error
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._request = b""
        self._attempts = 0
        self._since = self._deadline = 0.0
        self._closed = False

    def send(self, request: bytes) -> None:
        """Send a request; the one before it must have been answered."""
        self.busy = True
        self._request = request
        self._attempts = 0
        self._since = self._loop.time()
        self._transmit()

    def check(self, now: float) -> None:
        """Give up on an answer that is overdue."""
        if self.busy and self._pause is None and self._opening is None and now > self._deadline:
            self._retry(f"no answer within {self._patience.answer:g} s")

    def close(self) -> None:
        """Drop the connection and whatever is under way."""
        self._closed = True
        self.busy = False
        if self._pause:
            self._pause.cancel()
        if self._opening:
            self._opening.cancel()
        self._drop()

    # Connecting and sending

    def _transmit(self) -> None:
        self._pause = None
        if self._transport is None:
            self._opening = self._loop.create_task(self._open())
            return
        self._deadline = self._loop.time() + self._patience.answer
        self._transport.write(self._request)

    async def _open(self) -> None:
        problem = ""
        try:
            async with asyncio.timeout(self._patience.answer):
                await self._loop.create_connection(lambda: self, self._endpoint.host, self._endpoint.port)
        except TimeoutError:
            problem = f"no connection within {self._patience.answer:g} s"
        except OSError as error:
            problem = error.strerror or str(error)
        self._opening = None
        if problem:
            self._retry(problem)
        elif self._transport is None:
            self._retry("the connection was closed at once")
        else:
            self._transmit()

    def _retry(self, reason: str, after: float | None = None) -> None:
        """Send the request again, later."""
        self._drop()
        if self._closed:
            return
        waited = self._loop.time() - self._since
        if waited >= self._patience.outage:
            self._on_error(UnavailableError(f"the service does not answer for {waited:.0f} s ({reason})"))
            return
        self.trouble = reason
        pause = after if after is not None else min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._attempts)
        self._attempts += 1
        remaining = max(self._patience.outage - waited, FIRST_PAUSE)
        self._pause = self._loop.call_later(min(pause, remaining), self._transmit)

    def _drop(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        if self._closed:
            transport.close()
            return
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self.on_message_begin()

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer came."""
        if self._transport is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._on_error(SimulationError(f"the service does not speak HTTP ({error}): {data[:60]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone, on purpose or not."""
        if self._transport is None:
            return
        self._transport = None
        if not self.busy or self._pause is not None:
            return
        if self._until_end:
            self._complete(keep=False)
        else:
            self._retry(str(error) if error else "the connection was closed")

    # Called by the parser

    def on_message_begin(self) -> None:
        """An answer begins."""
        self._body = b""
        self._retry_after: float | None = None
        self._sized = False
        self._until_end = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the answer."""
        name = name.lower()
        if name == b"retry-after":
            self._retry_after = float(value) if value.isdigit() else None
        elif name in (b"content-length", b"transfer-encoding"):
            self._sized = True

    def on_headers_complete(self) -> None:
        """Only a body of unknown length ends with the connection."""
        self._until_end = not self._sized

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._complete(self._parser.should_keep_alive())

    def _complete(self, keep: bool) -> None:
        self._until_end = False
        status, body, after = self._parser.get_status_code(), self._body, self._retry_after
        if not keep:
            self._drop()
        if not self.busy or self._pause is not None:
            return
        if status == 200:
            self.busy, self.trouble = False, ""
            self._on_answer(self, body)
        elif status in RETRIED:
            self._retry(f"it answered {status}", after)
        else:
            self._on_error(SimulationError(f"the service answered {status}: {_message(body)}"))


def _message(body: bytes) -> str:
    """What an error's body says: its message if it is the service's JSON, else its beginning."""
    try:
        return str(orjson.loads(body)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return " ".join(body[:300].decode("utf-8", "replace").split()) or "nothing"
