"""The HTTP service: an application that records what listeners play and answers what comes next.

One event costs one server-side call in Redis; the answer is chosen here, written to the log, then sent. Nothing waits on the way:
requests come from :mod:`recsys.service.edge`, replies come from :mod:`recsys.service.link`, both as plain calls. Several
workers may run: they share nothing but Redis and the log directory.
"""

import asyncio
import gc
import hmac
import logging
import time
from functools import partial
from typing import NamedTuple

import orjson

from recsys.exceptions import InvalidInputError, UnavailableError
from recsys.experiments import load_live_experiment
from recsys.service.answers import Answerer, Answers, Call, calls
from recsys.service.degraded import Degraded
from recsys.service.departures import Departure, Departures, commands
from recsys.service.edge import Request
from recsys.service.link import RedisDownError, RedisLink, Word
from recsys.service.log import RequestLog
from recsys.service.meters import DEGRADED, REFUSED, TRACKS, UNKNOWN_TRACKS, count_answers, count_requests
from recsys.service.meters import text as metrics_text
from recsys.service.requests import BadRequestError, Event, parse_batch, parse_event, parse_json, parse_path_user
from recsys.service.state import NEWCOMERS, Catalogue, Scope
from recsys.service.world import Follower
from recsys.settings import Settings

log = logging.getLogger(__name__)

#: Departures that are recorded at a time, so that Redis answers others in between; seconds until it is looked for more.
DEPARTURES, DEPARTURES_EVERY = 128, 0.1
#: Seconds between looks at the files of the world.
WORLD_EVERY = 2.0


class App:
    """The application of one worker process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files = Follower(settings.world)
        self._experiment = load_live_experiment(settings.experiments)
        self._token = settings.service_token.get_secret_value().encode() if settings.service_token else None
        self._departures = Departures()
        self._degraded = Degraded(self._departures)
        self._outbox: list[_Answered] = []
        self._asked: list[Request] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect to Redis and load what is live, as far as that goes; requests may come then."""
        settings = self._settings
        self._loop = loop
        self._link = RedisLink(settings.redis_url.get_secret_value())
        await self._link.start()
        self._catalogue = Catalogue(
            self._link,
            self._files.world,
            self._experiment,
            settings.live_exploration,
            settings.seed,
            NEWCOMERS[NEWCOMERS.index(settings.newcomers) :],
        )
        self._answerer = Answerer(self._catalogue.loaded)
        await self._catalogue.start()
        self._log = RequestLog(settings.log_dir)
        self._background = [loop.create_task(each) for each in (self._record_departures(), self._follow_world())]
        # The catalogue stays for good: the garbage collector need not walk it again and again.
        gc.freeze()

    async def stop(self) -> None:
        """Close what :meth:`start` opened."""
        for task in self._background:
            task.cancel()
        await self._catalogue.stop()
        await self._link.stop()
        self._log.close()

    def handle(self, request: Request) -> None:
        """Answer a request, now or when Redis has answered."""
        self._begin(request)
        try:
            self._route(request)
        except Exception as error:
            self._fail(request, error)

    def refuse(self, request: Request, error: BadRequestError) -> None:
        """Answer a request whose body did not come, or is too large."""
        self._begin(request)
        self._fail(request, error)

    def _begin(self, request: Request) -> None:
        request.started = time.perf_counter()
        path = request.path
        request.route = path.split("/", 2)[1] if path[:1] == "/" else "?"

    def _route(self, request: Request) -> None:
        route = request.route
        expected = _ROUTES.get(route)
        if expected is None:
            raise BadRequestError("path", request.path, "one of /, /track/<id>, /next/<user>, /last/<user>, /batch", 404)
        if request.method != expected and not (expected == "GET" and request.method == "HEAD"):
            raise BadRequestError("method", request.method, f"{expected} for /{route}", 405)
        if route == "metrics":
            if not self._asked:
                self._loop.call_soon(self._send_metrics)
            self._asked.append(request)
            return
        if expected == "GET":
            self._finish(request, *self._get(route, request.path))
            return
        headers = request.headers
        run = headers.get("x-recsys-run")
        if run is None and "x-recsys-run" in headers:
            run = ""  # it cannot be read, and must not pass for a live request
        request.run = run
        if self._token is not None and (run is not None or route == "batch"):
            _authorize(headers.get("authorization") or "", self._token)
        scope = self._catalogue.known_scope(run)
        if scope is not None:
            self._read(request, scope)
        else:
            task = self._loop.create_task(self._prepare(request, run or ""))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _prepare(self, request: Request, run: str) -> None:
        """The specification of a run first, which this worker has not seen yet: it says which tracks there are."""
        try:
            self._read(request, await self._catalogue.scope(run))
        except Exception as error:
            self._fail(request, error)

    def _read(self, request: Request, scope: Scope) -> None:
        known = scope.world.known
        if request.route == "batch":
            events = parse_batch(request.body, known)
        else:
            user = parse_path_user(request.path[6:])
            events = [parse_event(parse_json(request.body), known, request.route == "last", *user)]
        if not known.strict and (unknown := sum(event.track >= known.size for event in events)):
            UNKNOWN_TRACKS.inc(unknown)
        if events:
            self._play(request, scope, events)
        else:
            self._finish(request, 200, b'{"answers":[]}')

    def _get(self, route: str, path: str) -> tuple[int, bytes]:
        if route == "":
            return 200, b'{"status":"alive","message":"nightshift recommends"}'
        if route == "healthz":
            return 200, b'{"status":"alive"}'
        if route == "readyz":
            ready = self._link.ready
            live = self._catalogue.live.version.name
            trouble = "; ".join(filter(None, (self._link.trouble, self._files.trouble)))
            split = self._catalogue.live.split
            rollout = {"candidate": split.candidate, "share": split.share} if split else None
            told = {"ready": ready, "redis": ready, "live": live or None, "rollout": rollout, "trouble": trouble or None}
            return (200 if ready else 503), orjson.dumps(told)
        return 200, orjson.dumps(self._track(path[7:]))

    def _track(self, text: str) -> dict[str, object]:
        """A track by its number or its owner's id, with what is offered after it."""
        scope = self._catalogue.live
        tracks = scope.world.tracks
        is_number = text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < tracks.size
        track = int(text) if is_number else tracks.number_of.get(text)
        if track is None:
            raise BadRequestError("track", text, f"an integer from 0 to {tracks.size - 1}, or the id of a track", 404)
        near = [other for other in scope.version.near(track) if other not in scope.stock.barred]
        return {**tracks.track_json(track), "recommendations": near}

    def _play(self, request: Request, scope: Scope, events: list[Event]) -> None:
        """Record the events in Redis, all calls in one write; the last reply starts the answer."""
        live = request.run is None
        if not self._link.ready:
            if not live:
                raise RedisDownError("not connected")
            self._answer_degraded(request, scope, events)
            return
        if live and self._departures.waiting:
            # Redis keeps the order: who has left and is here again begins another session.
            for words, users in self._departed(self._departures.of(event.user for event in events)):
                self._link.send(words, partial(self._know, users))
        recorded: list[tuple[Call, list[bytes]]] = []
        failed: list[RedisDownError] = []
        first_session = int(time.time()) if live else 0
        asked = calls(scope, events, self._settings.history_ttl, first_session, self._link.deadline)

        def settle(one: Call, reply: list[bytes] | RedisDownError) -> None:
            if isinstance(reply, RedisDownError):
                failed.append(reply)
            else:
                recorded.append((one, reply))
            if len(recorded) + len(failed) == len(asked):
                self._settled(request, scope, events, recorded, failed)

        for one in asked:
            self._link.send(one.words, partial(settle, one))

    def _settled(
        self,
        request: Request,
        scope: Scope,
        events: list[Event],
        recorded: list[tuple[Call, list[bytes]]],
        failed: list[RedisDownError],
    ) -> None:
        try:
            if not failed:
                if request.run is None:
                    self._degraded.end()
                now, latency = time.time(), round(time.perf_counter() - request.started, 6)
                self._answer(request, scope, self._answerer.answers(scope, recorded, now, latency))
            elif request.run is None:
                self._answer_degraded(request, scope, events)
            else:
                raise failed[0]
        except Exception as error:
            self._fail(request, error)

    def _answer_degraded(self, request: Request, scope: Scope, events: list[Event]) -> None:
        DEGRADED.inc(len(events))
        latency = round(time.perf_counter() - request.started, 6)
        self._answer(request, scope, self._degraded.answers(scope, events, time.time(), latency))

    def _answer(self, request: Request, scope: Scope, answers: Answers) -> None:
        """Put answers out; they leave together with all others of this turn of the event loop, after their log lines."""
        body = answers.bodies[0] if request.route != "batch" else b'{"answers":[' + b",".join(answers.bodies) + b"]}"
        if not self._outbox:
            self._loop.call_soon(self._send_out)
        self._outbox.append(_Answered(request, scope.name, body, answers))

    def _send_out(self) -> None:
        outbox, self._outbox = self._outbox, []
        by_scope: dict[str, list[_Answered]] = {}
        begun: dict[str, list[float]] = {}
        sources: list[str] = []
        for answered in outbox:
            by_scope.setdefault(answered.scope, []).append(answered)
        for scope, group in by_scope.items():
            try:
                self._log.write(scope, b"".join([line for answered in group for line in answered.answers.lines]))
            except OSError as error:
                for answered in group:
                    self._fail(answered.request, error)
                continue
            for request, _, body, answers in group:
                request.respond(200, body)
                sources += answers.sources
                begun.setdefault(request.route, []).append(request.started)
        now = time.perf_counter()
        for route, moments in begun.items():
            count_requests(route, 200, [now - moment for moment in moments])
        count_answers(sources)

    def _send_metrics(self) -> None:
        """One text for all who have asked: it takes longer than an answer."""
        asked, self._asked = self._asked, []
        text = metrics_text()
        for request in asked:
            self._finish(request, 200, text)

    def _fail(self, request: Request, error: Exception) -> None:
        if isinstance(error, BadRequestError):
            self._finish(request, error.status, orjson.dumps(error.body()))
        elif isinstance(error, InvalidInputError):
            self._finish(request, 404, _error(str(error)))
        elif isinstance(error, UnavailableError | RedisDownError):
            self._finish(request, 503, _error(f"Redis is away ({error}); try again"))
        elif isinstance(error, OSError):
            log.error("the request log cannot be written: %s", error)
            self._finish(request, 503, _error("the request log cannot be written; try again"))
        else:
            log.error("%s %s", request.method, request.path, exc_info=error)
            self._finish(request, 500, _error("an error in the service; its log tells more"))

    def _finish(self, request: Request, status: int, body: bytes) -> None:
        request.respond(status, body)
        route = request.route if request.route in _ROUTES else "other"
        count_requests(route, status, [time.perf_counter() - request.started])

    def _departed(self, users: list[Departure]) -> list[tuple[tuple[Word, ...], list[Departure]]]:
        """The commands that close the sessions of users who left while Redis was away."""
        live, ttl = self._catalogue.live, self._settings.history_ttl
        return commands(users, live.history, live.version.name, ttl, int(time.time()))

    def _know(self, users: list[Departure], reply: object) -> None:
        if not isinstance(reply, BaseException):
            self._departures.forget(users)

    async def _follow_world(self) -> None:
        """Answer from the files of the world as they are now."""
        while True:
            try:
                if await asyncio.to_thread(self._files.look):
                    self._catalogue.take(self._files.world)
            except Exception:
                log.exception("the files of the world cannot be followed; they are looked at again")
            TRACKS.set(self._files.world.tracks.size)
            REFUSED.set(bool(self._files.trouble))
            await asyncio.sleep(WORLD_EVERY)

    async def _record_departures(self) -> None:
        """Tell Redis who has left, also users who do not come back, and those whom a worker noted that has died."""
        while True:
            found = self._departures.some(DEPARTURES) if self._departures.waiting and self._link.ready else []
            asked = self._departed(found)
            replies = await asyncio.gather(*[self._link.call(*words) for words, _ in asked], return_exceptions=True)
            for (_, users), reply in zip(asked, replies, strict=True):
                self._know(users, reply)
            if not found or any(isinstance(reply, BaseException) for reply in replies):
                await asyncio.sleep(DEPARTURES_EVERY)


class _Answered(NamedTuple):
    """An answer that leaves once its lines are in the log."""

    request: Request
    scope: str
    body: bytes
    answers: Answers


_ROUTES = {
    "": "GET",
    "track": "GET",
    "healthz": "GET",
    "readyz": "GET",
    "metrics": "GET",
    "next": "POST",
    "last": "POST",
    "batch": "POST",
}


def _authorize(given: str, token: bytes) -> None:
    if not hmac.compare_digest(given.encode(), b"Bearer " + token):
        raise BadRequestError("authorization", "(hidden)", "the service's token as a Bearer token", 401)


def _error(message: str) -> bytes:
    return orjson.dumps({"error": {"field": None, "value": None, "constraint": None, "message": message}})
