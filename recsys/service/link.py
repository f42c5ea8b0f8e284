"""A thin asyncio link to Redis: many commands in flight on one connection, written once an event-loop tick.

The general client costs several times the CPU of a request here (benchmarks/service); this one knows pipelining, reconnecting,
time-outs and the library of functions, and nothing else. Everything outside the request path uses redis-py.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict, TypeVar, cast

import hiredis
from redis.connection import AbstractConnection, SSLConnection, parse_url

from recsys.versions.functions import LIBRARY, Library

log = logging.getLogger(__name__)

#: Seconds within which a command must be answered.
TIMEOUT = 1.0
#: Seconds for which a trouble is told after it was last seen, and between two log lines about any.
TOLD_FOR = 60.0
#: What Redis says when somebody has flushed or deleted its functions.
NO_FUNCTION = "Function not found"
#: What our functions say of a command that was executed after its deadline.
LATE = "LATE "

#: A word of a command, and what Redis replies unless it fails.
Word = str | bytes | int
Reply = bytes | int | list[bytes] | None
R = TypeVar("R", bound=Reply)


class RedisDownError(Exception):
    """Redis cannot be reached, did not answer in time, or refuses work."""


class _Where(TypedDict, total=False):
    """What redis-py reads in a URL."""

    host: str
    port: int
    path: str
    username: str
    password: str
    db: int
    connection_class: type[AbstractConnection]
    ssl_ca_certs: str


class RedisLink(asyncio.Protocol):
    """One connection that reopens itself.

    Args:
        url: ``redis://[[user]:password@]host[:port][/db]``, ``rediss://…[?ssl_ca_certs=PATH]`` over TLS, or
            ``unix://[[user]:password@]/path.sock[?db=N]``; redis-py reads it, here as everywhere else.
        library: functions that Redis has after each connect.
    """

    def __init__(self, url: str, library: Library = LIBRARY) -> None:
        self._where: _Where = parse_url(url)  # type: ignore[no-untyped-call]
        encrypted = self._where.get("connection_class") is SSLConnection
        self._encryption = ssl.create_default_context(cafile=self._where.get("ssl_ca_certs")) if encrypted else None
        self._library = library
        self._reader = hiredis.Reader(replyError=RedisReplyError)
        self._waiting: deque[tuple[float, Callable[[Any], None]]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._ready = False
        self._flushing = False
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._trouble, self._seen, self._told = "", -TOLD_FOR, -TOLD_FOR
        self._ahead = 0.0  # seconds that Redis's clock is ahead of the event loop's

    @property
    def ready(self) -> bool:
        """Whether commands are accepted now."""
        return self._ready

    @property
    def deadline(self) -> int:
        """Until when what is sent now may be executed, in milliseconds of Redis's clock: nobody waits for its reply then."""
        return int((self._loop.time() + self._ahead + TIMEOUT) * 1000)

    @property
    def trouble(self) -> str:
        """What was wrong within the last minute: Redis cannot be reached, or what it refused; empty if nothing."""
        return self._trouble if time.monotonic() < self._seen + TOLD_FOR else ""

    def note(self, trouble: str) -> None:
        """Remember what is wrong, and say so in the log, at most once a minute."""
        self._trouble, self._seen = trouble, time.monotonic()
        if self._seen >= self._told + TOLD_FOR:
            self._told = self._seen
            log.error("Redis: %s", trouble)

    async def start(self) -> None:
        """Connect and keep connected in the background."""
        self._loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, RedisDownError):
            await self._connect()
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Close."""
        if self._task:
            self._task.cancel()
        if self._transport:
            self._transport.close()

    async def fetch(self, *words: Word) -> bytes | None:
        """The string that a command gives, or None if there is none; raises what :meth:`call` raises."""
        reply = await self.call(*words)
        return reply if isinstance(reply, bytes) else None

    def call(self, *words: Word) -> asyncio.Future[Reply]:
        """Send a command; the future holds the reply or raises RedisDownError (RedisReplyError is one)."""
        if self._ready:
            return self._ask(words)
        future: asyncio.Future[Reply] = self._loop.create_future()
        future.set_exception(RedisDownError("not connected"))
        return future

    def _ask(self, words: tuple[Word, ...]) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = self._loop.create_future()

        def settle(reply: Reply | RedisDownError) -> None:
            if future.done():
                return
            if isinstance(reply, RedisDownError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        self.send(words, settle)
        return future

    def send(self, words: tuple[Word, ...], settle: Callable[[R | RedisDownError], None]) -> None:
        """Send a command (only while ``ready``); ``settle`` gets the reply or a RedisDownError, in the order of the calls."""
        self._out.append(hiredis.pack_command(words))  # type: ignore[arg-type]
        self._waiting.append((self._loop.time(), settle))
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand each whole reply to the command that waits longest."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if self._ready and isinstance(reply, RedisReplyError):
                self._refused(str(reply))
            self._waiting.popleft()[1](reply)

    def _refused(self, message: str) -> None:
        self.note(message)
        if (NO_FUNCTION in message or message.startswith(LATE)) and self._transport is not None:
            # A new connection begins with loading them, and with a look at Redis's clock; until then this one is not ready.
            self._ready = False
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every command in flight, and let the connection be opened again."""
        self._ready = False
        self._transport = None
        waiting, self._waiting = self._waiting, deque()
        self._out.clear()
        for _, settle in waiting:
            settle(RedisDownError(f"connection lost: {exc or 'closed'}"))
        self._lost.set()

    async def _connect(self) -> None:
        where = self._where
        self._reader = hiredis.Reader(replyError=RedisReplyError)
        self._lost.clear()
        if "path" in where:
            connecting: Awaitable[object] = self._loop.create_unix_connection(lambda: self, where["path"])
        else:
            host, port = where.get("host", "127.0.0.1"), where.get("port", 6379)
            connecting = self._loop.create_connection(lambda: self, host, port, ssl=self._encryption)
        await asyncio.wait_for(connecting, 2)
        try:
            if where.get("password"):
                await self._early(("AUTH", where.get("username") or "default", where["password"]))
            await self._early(("SELECT", str(where.get("db", 0))))
            await self._load()
            await self._compare_clocks()
        except RedisDownError:
            if self._transport:
                self._transport.close()
            raise
        self._ready = True

    async def _load(self) -> None:
        try:
            await self._early(("FUNCTION", "LOAD", self._library.code))
        except RedisReplyError as error:
            if not self._library.is_there(str(error)):
                raise

    async def _compare_clocks(self) -> None:
        asked = self._loop.time()
        reply = await self._early(("TIME",))
        if isinstance(reply, list):
            self._ahead = int(reply[0]) + int(reply[1]) / 1e6 - asked

    async def _early(self, words: tuple[Word, ...]) -> Reply:
        try:
            return await asyncio.wait_for(self._ask(words), TIMEOUT)
        except TimeoutError:
            raise RedisDownError("no answer") from None

    async def _keep(self) -> None:
        while True:
            if self._transport is None:
                try:
                    await self._connect()
                    log.info("connected to Redis")
                    self._trouble = ""
                except (OSError, RedisDownError, TimeoutError) as error:
                    self.note(f"no connection ({error or type(error).__name__})")
            elif self._waiting and self._loop.time() - self._waiting[0][0] > TIMEOUT:
                log.warning("Redis did not answer within %.1f s; reconnecting", TIMEOUT)
                self._transport.abort()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), 0.2)
            if self._transport is None:
                self._lost.clear()
                await asyncio.sleep(0.2)


class RedisReplyError(RedisDownError):
    """Redis answered with an error."""
