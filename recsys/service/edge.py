"""HTTP requests as Granian hands them over become calls of the application, without a task or a coroutine for each.

Granian (hyper, in threads of its own) speaks HTTP: the order of answers, what is no request, how long a head may take, how much
is held of what a client sends. Left to do here are bodies: how large and how long. A request crosses to the event loop once, with
its whole body, and all that have arrived by then are taken together.
"""

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from granian._granian import CallbackScheduler

from recsys.service.meters import GIVEN_UP
from recsys.service.requests import MAX_BODY, BadRequestError

log = logging.getLogger(__name__)

#: Seconds within which a body must have come.
BODY_SECONDS = 30.0
#: Seconds after which a worker that comes to itself again asks of what has arrived whether its client still waits, how often it
#: looks whether it does, and how long it then gives Granian to find out; what comes within DOUBTED may have been sent before.
STOOD_STILL, BEAT, FINDING_OUT, DOUBTED = 1.0, 0.1, 0.25, 1.0
#: So much of a body that is too large is read and thrown away: a client that is still sending would not read the refusal.
MAX_DISCARDED = 8 * 2**20

_JSON = [("content-type", "application/json")]
_TEXT = [("content-type", "text/plain; version=0.0.4")]
_RETRY = [*_JSON, ("retry-after", "1")]
#: After these a client may still be sending what nobody will read.
_CLOSE = [*_JSON, ("connection", "close")]
_BY_STATUS = {408: _CLOSE, 413: _CLOSE, 503: _RETRY}
_CONTEXT = contextvars.copy_context()


class Request:
    """A request; :meth:`respond` is called exactly once. Its route, run and start are the application's to set."""

    __slots__ = ("body", "future", "headers", "method", "path", "pieces", "route", "run", "size", "started", "transport")

    def __init__(self, scope: Any, transport: Any) -> None:
        self.method: str = scope.method
        self.path: str = scope.path
        self.headers = scope.headers
        self.transport = transport
        #: What comes next of the body; None if nothing does. Pieces: of a body that is not known to be small.
        self.future: Any = None
        self.pieces: list[bytes] | None = None
        self.size = 0
        self.body = b""
        self.run: str | None = None
        self.route = ""
        self.started = 0.0

    def respond(self, status: int, body: bytes) -> None:
        """Send the answer."""
        headers = _BY_STATUS.get(status, _JSON) if body[:1] == b"{" else _TEXT
        self.transport.response_bytes(status, headers, body)


class Application(Protocol):
    """What answers requests."""

    def handle(self, request: Request) -> None:
        """Answer a whole request, now or later."""

    def refuse(self, request: Request, error: BadRequestError) -> None:
        """Answer a request whose body did not come, or is too large."""


class Edge:
    """Requests of one worker, on their way to the application.

    Args:
        loop: where the application runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, application: Application) -> None:
        self._loop, self._application = loop, application
        self._ready: deque[Request] = deque()
        self._woken = False
        self._reading: dict[Request, float] = {}
        #: When the event loop was last seen to run, and until when what arrives may have been given up by its client.
        self._beat = self._doubtful = loop.time()
        #: What Granian hands requests to.
        self.scheduler = _Scheduler(self, self._received)

    # In Granian's thread; what this raised or returned would stay there for good.
    def _received(self, watcher: Any) -> None:
        """The head of a request is here."""
        try:
            request = Request(watcher.scope, watcher.proto)
            if request.method in ("GET", "HEAD"):
                self._arrived(request)
            else:
                self._read(request)
        except Exception:
            log.exception("a request could not be taken")
            watcher.done()  # which answers 500

    def _read(self, request: Request) -> None:
        length = request.headers.get("content-length") or ""
        # Without one, or with several in one line, the body shows how long it is.
        size = int(length) if length.isascii() and length.isdigit() else MAX_BODY + 1
        if size > MAX_BODY and length and "expect" in request.headers:
            request.size = size  # the client asks before it sends
            self._arrived(request)
            return
        self._reading[request] = time.monotonic()
        if size <= MAX_BODY:
            self._await(request, request.transport())
        else:
            request.pieces = []
            request.transport.__aiter__()
            self._await(request, request.transport.__anext__())

    def _await(self, request: Request, future: Any) -> None:
        request.future = future
        future.add_done_callback(request, _CONTEXT)

    def _arrived(self, request: Request) -> None:
        self._ready.append(request)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._take)

    def call_soon_threadsafe(self, callback: Request, future: Any, context: Any = None) -> None:  # noqa: ARG002
        """What Granian's futures call once they are done: to them this is the event loop."""
        self._arrived(callback)

    call_soon = call_soon_threadsafe

    # In the event loop.
    def beat(self) -> None:
        """Tell that the event loop runs; whoever calls this does so every :data:`BEAT` seconds."""
        now = self._loop.time()
        if (still := now - self._beat) > STOOD_STILL:
            log.warning("this worker stood still for %.1f s; what its clients have given up meanwhile is not done", still)
            self._doubtful = now + DOUBTED
        self._beat = now

    def _take(self) -> None:
        """Hand on the requests that have arrived."""
        self._woken = False
        ready, application = self._ready, self._application
        if self._loop.time() - self._beat > STOOD_STILL:
            self.beat()
        handle = self._doubt if self._loop.time() < self._doubtful else application.handle
        while ready:
            request = ready.popleft()
            try:
                whole = request.future is None or self._is_whole(request)
            except Exception as error:  # the client is gone, or what it sends is no body
                self._reading.pop(request, None)
                application.refuse(request, BadRequestError("body", str(error), "a whole body"))
                continue
            if whole and request.size > MAX_BODY:
                application.refuse(request, BadRequestError("body", f"{request.size} bytes", f"at most {MAX_BODY} bytes", 413))
            elif whole:
                handle(request)

    def _doubt(self, request: Request) -> None:
        """Handle a request unless its client has gone: it has asked another worker, and may be further by now."""
        gone = request.transport.client_disconnect()

        def decide() -> None:
            if gone.done():
                GIVEN_UP.inc()
                request.respond(503, b"{}")  # which nobody reads
            else:
                gone.cancel()
                self._application.handle(request)

        self._loop.call_later(FINDING_OUT, decide)

    def _is_whole(self, request: Request) -> bool:
        """Whether the body has come to its end; if not, its next piece is awaited."""
        # The two hold each other, which no garbage collection would see.
        future, request.future = request.future, None
        if request not in self._reading:
            return False  # it took too long and has been answered
        try:
            data: bytes = future.result()
        finally:
            # It holds the error that it raises, whose frames would hold it: no garbage collection would see that either.
            del future
        if request.pieces is None:
            request.body = data
        else:
            request.size += len(data)
            if request.size <= MAX_BODY:
                request.pieces.append(data)
            if data and request.size <= MAX_DISCARDED:
                self._await(request, request.transport.__anext__())
                return False
            if not data and not _is_over(request.transport):
                raise ValueError("it breaks off")
            if request.size <= MAX_BODY:
                request.body = b"".join(request.pieces)
            request.pieces = None
        del self._reading[request]
        return True

    def give_up(self) -> None:
        """Refuse requests whose bodies take too long."""
        oldest = time.monotonic() - BODY_SECONDS
        while (request := next(iter(self._reading), None)) is not None and self._reading[request] < oldest:
            del self._reading[request]
            request.future.cancel()
            error = BadRequestError("body", "incomplete", f"sent within {BODY_SECONDS:g} seconds", 408)
            self._application.refuse(request, error)


def _is_over(transport: Any) -> bool:
    """Whether a body has been read to its end; one that broke off goes on with nothing."""
    try:
        transport.__anext__().cancel()
    except StopAsyncIteration:
        return True
    return False


class _Scheduler(CallbackScheduler):
    """Granian's way to an application; the one that it would make itself starts a task for each request."""

    def __new__(cls, edge: Edge, received: Callable[[Any], None]) -> "_Scheduler":  # noqa: ARG004
        return super().__new__(cls, edge, None, None, None, None)  # type: ignore[call-arg]

    def __init__(self, edge: Edge, received: Callable[[Any], None]) -> None:  # noqa: ARG002
        self._schedule_fn = received
