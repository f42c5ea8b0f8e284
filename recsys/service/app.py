"""The HTTP service: an application that records what listeners play and answers what comes next.

One event costs one server-side call in Redis; the answer is chosen here, written to the log, then sent. Nothing waits on the way:
requests come from :mod:`recsys.service.protocol`, replies come from :mod:`recsys.service.link`, both as plain calls. Several
workers may run: they share nothing but Redis and the log directory.
"""

import asyncio
import gc
import hmac
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from typing import NamedTuple

import orjson
import prometheus_client as prom
from prometheus_client import multiprocess

from recsys import catalog
from recsys.exceptions import InvalidInputError, UnavailableError
from recsys.experiments import load_live_experiment
from recsys.schemas import TOP_LENGTH
from recsys.service.answers import Answerer, Answers, Call, calls
from recsys.service.degraded import Degraded
from recsys.service.link import RedisDownError, RedisLink
from recsys.service.log import RequestLog
from recsys.service.protocol import Request
from recsys.service.requests import MAX_BODY, BadRequestError, Event, parse_batch, parse_event, parse_json, parse_user
from recsys.service.state import Catalogue, Scope
from recsys.settings import Settings, load_settings

log = logging.getLogger(__name__)

#: Departures that are recorded at a time: Redis answers others in between.
DEPARTURES = 128

Receive = Callable[[], Awaitable[Mapping[str, object]]]
Send = Callable[[dict[str, str]], Awaitable[None]]

REQUESTS = prom.Counter("recsys_requests", "Requests answered, by route and status", ["route", "status"])
ANSWERS = prom.Counter("recsys_answers", "Tracks answered, by source", ["source"])
DEGRADED = prom.Counter("recsys_degraded", "Answers given without Redis")
LATENCY = prom.Histogram(
    "recsys_latency_seconds",
    "Time to answer a request",
    ["route"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)


class App:
    """The application of one worker process."""

    max_body = MAX_BODY

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracks = catalog.load_tracks(settings.world)
        self._users = frozenset(catalog.load_users(settings.world).tolist())
        self._top = tuple(catalog.load_top_tracks(settings.world) or range(min(TOP_LENGTH, self._tracks.size)))
        self._experiment = load_live_experiment(settings.experiments)
        self._token = settings.service_token.get_secret_value().encode() if settings.service_token else None
        self._degraded = Degraded(self._tracks.size)
        self._recovering = asyncio.Lock()
        self._outbox: list[_Answered] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Mapping[str, object], receive: Receive, send: Send) -> None:
        """Start and stop, as ASGI says it; requests come through :meth:`handle`."""
        while scope["type"] == "lifespan":
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _start(self) -> None:
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        self._link = RedisLink(settings.redis_url.get_secret_value())
        await self._link.start()
        self._catalogue = Catalogue(
            self._link, self._tracks.size, self._top, self._experiment, settings.live_exploration, settings.seed
        )
        self._answerer = Answerer(self._tracks.size, self._catalogue.loaded)
        await self._catalogue.start()
        self._log = RequestLog(settings.log_dir)
        # The catalogue stays for good: the garbage collector need not walk it again and again.
        gc.freeze()

    async def _stop(self) -> None:
        await self._catalogue.stop()
        await self._link.stop()
        self._log.close()

    def handle(self, request: Request) -> None:
        """Answer a request, now or when Redis has answered; ``request.respond`` is called exactly once."""
        call = _Call(request, request.path.split("/", 2)[1] if request.path[:1] == "/" else "?", time.perf_counter())
        try:
            self._route(call)
        except Exception as error:
            self._fail(call, error)

    def _route(self, call: "_Call") -> None:
        request, route = call.request, call.route
        expected = _ROUTES.get(route)
        if expected is None:
            raise BadRequestError("path", request.path, "one of /, /track/<id>, /next/<user>, /last/<user>, /batch", 404)
        if request.method != expected and not (expected == b"GET" and request.method == b"HEAD"):
            raise BadRequestError("method", request.method.decode("latin-1"), f"{expected.decode()} for /{route}", 405)
        if expected == b"GET":
            self._finish(call, *self._get(route, request.path))
            return
        self._authorize(request, route)
        if route == "batch":
            events = parse_batch(request.body, self._users, self._tracks.size)
        else:
            user = parse_user(request.path[6:], self._users)
            events = [parse_event(parse_json(request.body), route == "last", user, self._tracks.size)]
        scope = self._catalogue.known_scope(request.run)
        if not events:
            self._finish(call, 200, b'{"answers":[]}')
        elif scope is not None and not (request.run is None and self._degraded.has_departed and self._link.ready):
            self._play(call, scope, events)
        else:
            task = self._loop.create_task(self._prepare(call, events))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _prepare(self, call: "_Call", events: list[Event]) -> None:
        """What a request seldom needs first: its run's specification, or the departures noted while Redis was away."""
        try:
            if call.request.run is not None:
                scope = await self._catalogue.scope(call.request.run)
            else:
                scope = self._catalogue.live
                async with self._recovering:
                    await self._apply_departed()
            self._play(call, scope, events)
        except Exception as error:
            self._fail(call, error)

    def _authorize(self, request: Request, route: str) -> None:
        guarded = request.run is not None or route == "batch"
        if guarded and self._token is not None and not hmac.compare_digest(request.authorization, b"Bearer " + self._token):
            raise BadRequestError("authorization", "(hidden)", "the service's token as a Bearer token", 401)

    def _get(self, route: str, path: str) -> tuple[int, bytes]:
        if route == "":
            return 200, b'{"status":"alive","message":"nightshift recommends"}'
        if route == "healthz":
            return 200, b'{"status":"alive"}'
        if route == "readyz":
            ready = self._link.ready
            live = self._catalogue.live.version.name
            return (200 if ready else 503), orjson.dumps({"ready": ready, "redis": ready, "live": live or None})
        if route == "metrics":
            return 200, _metrics()
        text = path[7:]
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < self._tracks.size):
            raise BadRequestError("track", text, f"an integer from 0 to {self._tracks.size - 1}", 404)
        return 200, orjson.dumps(self._tracks.track_json(int(text)))

    def _play(self, call: "_Call", scope: Scope, events: list[Event]) -> None:
        """Record the events in Redis, all calls in one write; the last reply starts the answer."""
        live = call.request.run is None
        if not self._link.ready:
            if not live:
                raise RedisDownError("not connected")
            self._answer_degraded(call, scope, events)
            return
        recorded: list[tuple[Call, list[bytes]]] = []
        failed: list[RedisDownError] = []
        asked = calls(scope, events, self._settings.history_ttl, int(time.time()) if live else 0)

        def settle(one: Call, reply: list[bytes] | RedisDownError) -> None:
            if isinstance(reply, RedisDownError):
                failed.append(reply)
            else:
                recorded.append((one, reply))
            if len(recorded) + len(failed) == len(asked):
                self._settled(call, scope, events, recorded, failed)

        for one in asked:
            self._link.send(one.words, partial(settle, one))

    def _settled(
        self,
        call: "_Call",
        scope: Scope,
        events: list[Event],
        recorded: list[tuple[Call, list[bytes]]],
        failed: list[RedisDownError],
    ) -> None:
        try:
            if not failed:
                if call.request.run is None:
                    self._degraded.end()
                now, latency = time.time(), round(time.perf_counter() - call.started, 6)
                self._answer(call, scope, self._answerer.answers(scope, recorded, now, latency))
            elif call.request.run is None:
                self._answer_degraded(call, scope, events)
            else:
                raise failed[0]
        except Exception as error:
            self._fail(call, error)

    def _answer_degraded(self, call: "_Call", scope: Scope, events: list[Event]) -> None:
        DEGRADED.inc(len(events))
        latency = round(time.perf_counter() - call.started, 6)
        self._answer(call, scope, self._degraded.answers(scope, events, time.time(), latency))

    def _answer(self, call: "_Call", scope: Scope, answers: Answers) -> None:
        """Put answers out; they leave together with all others of this turn of the event loop, after their log lines."""
        for source, count in answers.sources.items():
            _answered(source).inc(count)
        body = answers.bodies[0] if call.route != "batch" else b'{"answers":[' + b",".join(answers.bodies) + b"]}"
        if not self._outbox:
            self._loop.call_soon(self._send_out)
        self._outbox.append(_Answered(call, scope.name, body, answers.lines))

    def _send_out(self) -> None:
        outbox, self._outbox = self._outbox, []
        by_scope: dict[str, list[_Answered]] = {}
        for answered in outbox:
            by_scope.setdefault(answered.scope, []).append(answered)
        for scope, group in by_scope.items():
            try:
                self._log.write(scope, b"".join([line for answered in group for line in answered.lines]))
            except OSError as error:
                for answered in group:
                    self._fail(answered.call, error)
                continue
            for answered in group:
                self._finish(answered.call, 200, answered.body)

    def _fail(self, call: "_Call", error: Exception) -> None:
        if isinstance(error, BadRequestError):
            self._finish(call, error.status, orjson.dumps(error.body()))
        elif isinstance(error, InvalidInputError):
            self._finish(call, 404, _error(str(error)))
        elif isinstance(error, UnavailableError | RedisDownError):
            self._finish(call, 503, _error(f"Redis is away ({error}); try again"))
        elif isinstance(error, OSError):
            log.error("the request log cannot be written: %s", error)
            self._finish(call, 503, _error("the request log cannot be written; try again"))
        else:
            log.error("%s %s", call.request.method.decode("latin-1"), call.request.path, exc_info=error)
            self._finish(call, 500, _error("an error in the service; its log tells more"))

    def _finish(self, call: "_Call", status: int, body: bytes) -> None:
        call.request.respond(status, body)
        counter, histogram = _meters(call.route if call.route in _ROUTES else "other", status)
        counter.inc()
        histogram.observe(time.perf_counter() - call.started)

    async def _apply_departed(self) -> None:
        """Record the departures noted while Redis was away, some at a time; what it refuses waits for another time."""
        while departed := self._degraded.take_departed(DEPARTURES):
            asked = calls(self._catalogue.live, departed, self._settings.history_ttl, int(time.time()))
            replies = await asyncio.gather(*[self._link.call(*one.words) for one in asked], return_exceptions=True)
            refused = [one for one, reply in zip(asked, replies, strict=True) if isinstance(reply, RedisDownError)]
            if refused:
                self._degraded.put_back([event for one in refused for _, event, _ in one.events])
                return


class _Call(NamedTuple):
    """A request under way."""

    request: Request
    route: str
    started: float


class _Answered(NamedTuple):
    """An answer that leaves once its lines are in the log."""

    call: _Call
    scope: str
    body: bytes
    lines: list[bytes]


_ROUTES = {
    "": b"GET",
    "track": b"GET",
    "healthz": b"GET",
    "readyz": b"GET",
    "metrics": b"GET",
    "next": b"POST",
    "last": b"POST",
    "batch": b"POST",
}


@cache
def _meters(route: str, status: int) -> tuple[prom.Counter, prom.Histogram]:
    return REQUESTS.labels(route, status), LATENCY.labels(route)


@cache
def _answered(source: str) -> prom.Counter:
    return ANSWERS.labels(source)


def _metrics() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return prom.generate_latest()
    registry = prom.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return prom.generate_latest(registry)


def _error(message: str) -> bytes:
    return orjson.dumps({"error": {"field": None, "value": None, "constraint": None, "message": message}})


def create() -> App:
    """The factory that each worker process calls."""
    return App(load_settings())
