"""A load generator: listeners on some connections, each asking ``POST /next/<user>`` again as soon as it is answered.

The same client drives both sides: raw asyncio, one write a request, and a new connection where the server closes after an answer.
"""

import asyncio
import re
import time
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

import uvloop

from benchmarks.measure import milliseconds

_TRACK = re.compile(rb'"track":\s*(\d+)')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)

#: Requests for one user in a row, about the length of a session.
SESSION = 8


@dataclass
class Load:
    """What was measured: how long it took, and how long each request took."""

    seconds: float = 0.0
    durations: list[float] = field(default_factory=list)
    errors: int = 0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.durations) / self.seconds

    def summary(self) -> dict[str, float]:
        """Rate and quantiles of the response time."""
        return {
            "requests": len(self.durations),
            "requests_s": round(self.rate, 1),
            "errors": self.errors,
            "p50_ms": milliseconds(self.durations, 0.5),
            "p99_ms": milliseconds(self.durations, 0.99),
        }


def drive(url: str, connections: int, seconds: float, users: int, tracks: int, run: str | None = None, first: int = 0) -> Load:
    """Ask for ``seconds`` over ``connections`` connections; no two of them ask for the same user at once.

    Args:
        users, tracks: sizes of the world. run: sent as the run id, if given. first: the first user's id; the others follow it.
    """
    load = Load()
    uvloop.run(_drive(url, connections, seconds, range(first, first + users), tracks, run, load))
    return load


async def _drive(url: str, connections: int, seconds: float, users: range, tracks: int, run: str | None, load: Load) -> None:
    parts = urlsplit(url)
    headers = f"Host: {parts.netloc}\r\nContent-Type: application/json\r\n" + (f"X-Recsys-Run: {run}\r\n" if run else "")
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    listeners = []
    for number in range(connections):
        mine = users[number::connections]
        listeners.append(_Listener(loop, parts.hostname or "", parts.port or 80, headers, mine, tracks, load, started + seconds))
    await asyncio.gather(*[listener.run() for listener in listeners])
    load.seconds = time.perf_counter() - started


class _Listener(asyncio.Protocol):
    """One connection; a request is written as soon as the answer before it is complete."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        port: int,
        headers: str,
        users: range,
        tracks: int,
        load: Load,
        end: float,
    ) -> None:
        self._loop, self._host, self._port, self._headers, self._users = loop, host, port, headers, users
        self._tracks, self._load, self._end = tracks, load, end
        self._count = count()
        self._track = users[0] % tracks
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._over = loop.create_future()

    async def run(self) -> None:
        await self._connect()
        try:
            await self._over
        finally:
            if self._transport is not None:
                self._transport.close()

    async def _connect(self) -> None:
        self._began = time.perf_counter()
        await self._loop.create_connection(lambda: self, self._host, self._port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._ask()

    def _ask(self) -> None:
        number = next(self._count)
        user = self._users[number // SESSION % len(self._users)]
        played = (37 * number + 11) % 101 / 100
        body = f'{{"track":{self._track},"time":{played}}}'
        head = f"POST /next/{user} HTTP/1.1\r\n{self._headers}Content-Length: {len(body)}\r\n\r\n{body}"
        self._transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end + 2)
        if length is None or len(self._buffer) < end + 4 + int(length[1]):
            return
        answer, self._buffer = self._buffer, b""
        self._answered(answer, end)

    def _answered(self, answer: bytes, end: int) -> None:
        now = time.perf_counter()
        self._load.durations.append(now - self._began)
        found = _TRACK.search(answer, end)
        if answer[9:12] == b"200" and found:
            self._track = int(found[1])
        else:
            self._load.errors += 1
        if now >= self._end:
            if not self._over.done():
                self._over.set_result(None)
        elif answer.startswith(b"HTTP/1.0") or _CLOSE.search(answer, 0, end + 2):
            self._transport.close()
            self._loop.create_task(self._connect())
        else:
            self._began = now
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self._over.done():
            self._over.set_exception(exc)
