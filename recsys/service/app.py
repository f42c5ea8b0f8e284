"""The HTTP service: an ASGI application that records what listeners play and answers what comes next.

One event costs one server-side call in Redis; the answer is chosen here, written to the log, then sent. Several workers may run:
they share nothing but Redis and the log directory.
"""

import asyncio
import hmac
import logging
import os
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any

import orjson
import prometheus_client as prom
from prometheus_client import multiprocess

from recsys import catalog, keyspace
from recsys.exceptions import InvalidInputError, UnavailableError
from recsys.experiments import load_live_experiment
from recsys.schemas import TOP_LENGTH
from recsys.service.choose import Candidates, Choice, explore, from_any, request_hash, unplayed
from recsys.service.link import RedisDownError, RedisLink
from recsys.service.log import RequestLog
from recsys.service.requests import MAX_BODY, BadRequestError, Event, parse_batch, parse_event, parse_json, parse_user
from recsys.service.state import Catalogue, Scope, Version, candidates
from recsys.settings import Settings, load_settings

log = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_PLAY = struct.Struct("<II").pack
_JSON = (b"content-type", b"application/json")

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

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracks = catalog.load_tracks(settings.world)
        self._users = frozenset(catalog.load_users(settings.world).tolist())
        self._top = tuple(catalog.load_top_tracks(settings.world) or range(min(TOP_LENGTH, self._tracks.size)))
        self._experiment = load_live_experiment(settings.experiments)
        self._token = settings.service_token.get_secret_value().encode() if settings.service_token else None
        self._pending_last: dict[int, Event] = {}
        self._degraded_plays: dict[int, set[int]] = {}

    async def _start(self) -> None:
        settings = self._settings
        library = ("FUNCTION", "LOAD", "REPLACE", keyspace.LIBRARY.read_text())
        self._link = RedisLink(settings.redis_url.get_secret_value(), (library,))
        await self._link.start()
        self._catalogue = Catalogue(
            self._link, self._tracks.size, self._top, self._experiment, settings.live_exploration, settings.seed
        )
        await self._catalogue.start()
        self._log = RequestLog(settings.log_dir)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        path, method = scope["path"], scope["method"]
        route = path.split("/", 2)[1]
        retry = False
        try:
            status, body = await self._answer(method, route, path, scope["headers"], receive, started)
        except BadRequestError as error:
            status, body = error.status, orjson.dumps(error.body())
        except InvalidInputError as error:
            status, body = 404, _error(str(error))
        except (UnavailableError, RedisDownError) as error:
            status, body, retry = 503, _error(f"Redis is away ({error}); try again"), True
        except OSError as error:
            log.error("the request log cannot be written: %s", error)
            status, body, retry = 503, _error("the request log cannot be written; try again"), True
        kind = (b"content-type", b"text/plain; version=0.0.4") if route == "metrics" and status == 200 else _JSON
        headers = [kind, (b"content-length", str(len(body)).encode())]
        if retry:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        counter, histogram = _meters(route if route in _ROUTES else "other", status)
        counter.inc()
        histogram.observe(time.perf_counter() - started)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._catalogue.stop()
                await self._link.stop()
                self._log.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(
        self, method: str, route: str, path: str, headers: Sequence[tuple[bytes, bytes]], receive: Receive, started: float
    ) -> tuple[int, bytes]:
        expected = _ROUTES.get(route)
        if expected is None:
            raise BadRequestError("path", path, "one of /, /track/<id>, /next/<user>, /last/<user>, /batch", 404)
        if method != expected and not (expected == "GET" and method == "HEAD"):
            raise BadRequestError("method", method, f"{expected} for /{route}", 405)
        if expected == "GET":
            return self._get(route, path)
        run = self._authorize(route, headers)
        body = await _read(receive)
        last = route == "last"
        if route == "batch":
            events = parse_batch(body, self._users, self._tracks.size)
        else:
            user = parse_user(path[6:], self._users)
            events = [parse_event(parse_json(body), last, user, self._tracks.size)]
        where = await self._catalogue.scope(run) if run else self._catalogue.live
        answers = await self._play(where, events, started, run is None)
        if route == "batch":
            return 200, b'{"answers":[' + b",".join(answers) + b"]}"
        return 200, answers[0]

    def _authorize(self, route: str, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        run, given = None, b""
        for name, value in headers:
            if name == b"x-recsys-run":
                run = value.decode("latin-1")
            elif name == b"authorization":
                given = value
        guarded = run is not None or route == "batch"
        if guarded and self._token is not None and not hmac.compare_digest(given, b"Bearer " + self._token):
            raise BadRequestError("authorization", "(hidden)", "the service's token as a Bearer token", 401)
        return run

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

    async def _play(self, scope: Scope, events: list[Event], started: float, live: bool) -> list[bytes]:
        try:
            if live and self._pending_last:
                await self._apply_pending()
            replies = await asyncio.gather(*[self._record(scope, event, live) for event in events])
        except RedisDownError:
            if not live:
                raise
            return self._play_degraded(scope, events, started)
        answers, lines = [], []
        now = time.time()
        latency = time.perf_counter() - started
        for event, reply in zip(events, replies, strict=True):
            answer, line = self._serve(scope, event, reply, now, latency)
            answers.append(answer)
            lines.append(line)
        self._log.write(scope.name, b"".join(lines))
        return answers

    def _record(self, scope: Scope, event: Event, live: bool) -> Awaitable[Any]:
        arm, version = scope.arm_of(event.user)
        b = event.user % keyspace.BUCKETS
        listed = not event.last and (arm is None or arm.recommender == "dae")
        return self._link.call(
            "FCALL", "recsys_event", 2,
            f"{scope.history[b]}{event.user}", version.lists[b],
            "last" if event.last else "next", event.user, _PLAY(event.track, round(event.time * 10_000)), event.digest,
            self._settings.history_ttl, int(time.time()) if live else 0, version.name, "1" if listed else "0",
        )  # fmt: skip

    def _serve(self, scope: Scope, event: Event, reply: list[Any], now: float, latency: float) -> tuple[bytes, bytes]:
        session, step, held, plays, listed = reply
        arm, version = scope.arm_of(event.user)
        if held.decode() != version.name:
            # A repeated event gets the answer that it got before the version changed.
            version = self._catalogue.loaded(held.decode()) or version
        choice: Choice | None = None
        if not event.last:
            played = set(keyspace.unpack(plays)[::2])
            draw = request_hash(scope.seed, event.user, session, step, event.track)
            greedy = candidates(arm, version, keyspace.unpack(listed), event.track, played)
            if not greedy.tracks:
                greedy = Candidates((unplayed(self._tracks.size, played, draw),), "top100")
            choice = explore(greedy, scope.exploration, self._tracks.size, played, draw)
            _answers(choice.source).inc()
        line = _line(scope, event, arm.name if arm else None, version, session, step, choice, False, now, latency)
        return _reply(event, choice), line

    def _play_degraded(self, scope: Scope, events: list[Event], started: float) -> list[bytes]:
        """Answer live traffic from the TOP 100 in memory while Redis is away."""
        answers, lines = [], []
        now = time.time()
        for event in events:
            choice: Choice | None = None
            played = self._degraded_plays.setdefault(event.user, set())
            if event.last:
                self._degraded_plays.pop(event.user, None)
                self._pending_last[event.user] = event
            else:
                played.add(event.track)
                draw = request_hash(scope.seed, event.user, 0, len(played), event.track)
                greedy = from_any(scope.version.top, played, "top100")
                track = greedy.tracks[draw(0) % len(greedy.tracks)] if greedy else unplayed(self._tracks.size, played, draw)
                played.add(track)
                choice = Choice(track, "top100", 1.0 / (len(greedy.tracks) if greedy else 1))
                _answers("top100").inc()
            DEGRADED.inc()
            latency = time.perf_counter() - started
            arm, _ = scope.arm_of(event.user)
            lines.append(
                _line(scope, event, arm.name if arm else None, scope.version, -1, len(played), choice, True, now, latency)
            )
            answers.append(_reply(event, choice))
        self._log.write(scope.name, b"".join(lines))
        return answers

    async def _apply_pending(self) -> None:
        pending, self._pending_last = self._pending_last, {}
        self._degraded_plays.clear()
        try:
            await asyncio.gather(*[self._record(self._catalogue.live, event, True) for event in pending.values()])
        except RedisDownError:
            self._pending_last = pending | self._pending_last
            raise


_ROUTES = {
    "": "GET", "track": "GET", "healthz": "GET", "readyz": "GET", "metrics": "GET",
    "next": "POST", "last": "POST", "batch": "POST",
}  # fmt: skip


@cache
def _meters(route: str, status: int) -> tuple[prom.Counter, prom.Histogram]:
    return REQUESTS.labels(route, status), LATENCY.labels(route)


@cache
def _answers(source: str) -> prom.Counter:
    return ANSWERS.labels(source)


def _metrics() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return prom.generate_latest()
    registry = prom.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return prom.generate_latest(registry)


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body") and size <= MAX_BODY:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    return b"".join(parts)


def _reply(event: Event, choice: Choice | None) -> bytes:
    if choice is None:
        return b'{"user":%d}' % event.user
    return b'{"user":%d,"track":%d}' % (event.user, choice.track)


def _line(
    scope: Scope, event: Event, arm: str | None, version: Version, session: int, step: int,
    choice: Choice | None, degraded: bool, now: float, latency: float,
) -> bytes:  # fmt: skip
    experiments = {scope.experiment.name: arm} if scope.experiment and arm else {}
    record = {
        "message": "last" if event.last else "next", "timestamp": int(now * 1000), "user": event.user,
        "track": event.track, "time": event.time, "latency": round(latency, 6),
        "recommendation": choice.track if choice else None, "experiments": experiments, "run": scope.name,
        "version": version.name, "session": session, "step": step, "event": event.key,
        "source": choice.source if choice else None, "degraded": degraded,
        "propensity": choice.propensity if choice else None,
    }  # fmt: skip
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _error(message: str) -> bytes:
    return orjson.dumps({"error": {"field": None, "value": None, "constraint": None, "message": message}})


def create() -> App:
    """The factory that each worker process calls."""
    return App(load_settings())
