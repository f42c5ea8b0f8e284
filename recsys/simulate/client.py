"""Sessions played over HTTP: a :class:`~recsys.simulate.play.Play` in, requests to the service out.

Two ways to ask: one request an event (``POST /next/<user>``, ``POST /last/<user>``), or many events a request (``POST /batch``).
Either way, answers that arrive within a moment are played together.
"""

import asyncio
import logging
import signal
import threading
from typing import Protocol

import numpy as np
import orjson
import uvloop

from recsys import urls
from recsys.exceptions import RecsysError, SimulationError, UnavailableError
from recsys.simulate.connection import Channel, Endpoint, Patience
from recsys.simulate.play import Play, Plays, unknown_track

log = logging.getLogger(__name__)

#: Hundredths as JSON numbers.
_TIMES = [repr(h / 100) for h in range(101)]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _may_handle_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


class Codec(Protocol):
    """How events become a request, and an answer becomes tracks."""

    def encode(self, plays: list[tuple[int, ...]], leaving: list[bool]) -> bytes:
        """One request for events ``(user, track, hundredths, episode, step)``; ``leaving`` marks the last of a session."""

    def decode(self, body: bytes, users: list[int], leaving: list[bool]) -> list[int]:
        """The answered tracks in order; -1 for those who leave."""


class SingleCodec:
    """One event a request, as the original API has it."""

    def __init__(self, headers: "Headers", tracks: int) -> None:
        prefix = headers.endpoint.prefix
        rest = f" HTTP/1.1\r\n{headers.text}Content-Length: ".encode()
        self._next = f"POST {prefix}/next/".encode() + b"%d" + rest.replace(b"%", b"%%") + b"%d\r\n\r\n%b"
        self._last = f"POST {prefix}/last/".encode() + b"%d" + rest.replace(b"%", b"%%") + b"%d\r\n\r\n%b"
        self._keyed = headers.keyed
        self._tracks = tracks

    def encode(self, plays: list[tuple[int, ...]], leaving: list[bool]) -> bytes:
        """See :class:`Codec`."""
        user, track, time, episode, step = plays[0]
        if self._keyed:
            body = f'{{"track":{track},"time":{_TIMES[time]},"event":"{episode}.{step}"}}'.encode()
        else:
            body = f'{{"track":{track},"time":{_TIMES[time]}}}'.encode()
        return (self._last if leaving[0] else self._next) % (user, len(body), body)

    def decode(self, body: bytes, users: list[int], leaving: list[bool]) -> list[int]:
        """See :class:`Codec`."""
        return [_track(_json(body), users[0], leaving[0], self._tracks)]


class BatchCodec:
    """Many events a request."""

    def __init__(self, headers: "Headers", tracks: int) -> None:
        self._head = f"POST {headers.endpoint.prefix}/batch HTTP/1.1\r\n{headers.text}Content-Length: ".encode()
        self._keyed = headers.keyed
        self._tracks = tracks

    def encode(self, plays: list[tuple[int, ...]], leaving: list[bool]) -> bytes:
        """See :class:`Codec`."""
        keyed = self._keyed
        events = [
            f'{{"message":"{"last" if last else "next"}","user":{user},"track":{track},"time":{_TIMES[time]}'
            + (f',"event":"{episode}.{step}"}}' if keyed else "}")
            for (user, track, time, episode, step), last in zip(plays, leaving, strict=True)
        ]
        body = ('{"events":[' + ",".join(events) + "]}").encode()
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def decode(self, body: bytes, users: list[int], leaving: list[bool]) -> list[int]:
        """See :class:`Codec`."""
        data = _json(body)
        answers = data.get("answers") if type(data) is dict else None
        if type(answers) is not list or len(answers) != len(users):
            found = f"{len(answers)} answers" if type(answers) is list else f"no answers: {body[:80]!r}"
            raise SimulationError(f"a batch of {len(users)} events got {found}; there must be one answer an event")
        return [_track(*item, self._tracks) for item in zip(answers, users, leaving, strict=True)]


class Headers:
    """The headers of every request; with a run id, events carry keys, so that a repeated one does nothing."""

    def __init__(self, endpoint: Endpoint, run: str | None, token: str | None) -> None:
        lines = [f"Host: {urls.authority(endpoint.host, endpoint.port)}", "Content-Type: application/json"]
        if run is not None:
            lines.append(f"X-Recsys-Run: {run}")
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        self.endpoint = endpoint
        self.text = "".join(f"{line}\r\n" for line in lines)
        self.keyed = run is not None


class Remote:
    """Plays all sessions of ``play`` over ``channels`` connections with ``width`` slots each."""

    def __init__(self, play: Play, codec: Codec, endpoint: Endpoint, channels: int, width: int, patience: Patience) -> None:
        self._play, self._codec, self._endpoint, self._patience = play, codec, endpoint, patience
        self._count, self._width = channels, width
        slots = channels * width
        self._leaving = np.zeros(slots, bool)
        self._users: list[int] = [0] * slots
        self._idle = np.arange(slots)
        self._ready: list[list[int]] = [[] for _ in range(channels)]
        self._arrived: list[tuple[Channel, bytes]] = []
        self._awaited = 0
        self._in_trouble = False
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._signal: signal.Signals | None = None

    def run(self) -> None:
        """Play to the end, or to a signal, which then does what it would have done outside.

        Raises:
            UnavailableError: the service was away for too long; says how many episodes had ended.
            SimulationError: an answer is an error or makes no sense.
        """
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            uvloop.run(self._run())
        finally:
            if _may_handle_signals():  # the loop has put the default ones there
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        if self._signal is not None:
            signal.raise_signal(self._signal)
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        if _may_handle_signals():
            # What a handler raises in a callback of the loop, the loop may swallow.
            for number in _SIGNALS:
                loop.add_signal_handler(number, self._stop, number)
        self._channels = [Channel(self._endpoint, self._patience, self._on_answer, self._fail) for _ in range(self._count)]
        self._turn()
        while not self._over.is_set():
            try:
                async with asyncio.timeout(min(1.0, self._patience.answer / 4)):
                    await self._over.wait()
            except TimeoutError:
                for channel in self._channels:
                    channel.check(loop.time())
                self._report_trouble()
        for channel in self._channels:
            channel.close()

    def _stop(self, number: signal.Signals) -> None:
        self._signal = number
        self._over.set()

    def _report_trouble(self) -> None:
        """Say once in an outage that it is one."""
        trouble = next((channel.trouble for channel in self._channels if channel.trouble), "")
        if trouble and not self._in_trouble:
            log.warning("the service does not answer (%s); trying again for up to %g s", trouble, self._patience.outage)
        self._in_trouble = bool(trouble)

    def _on_answer(self, channel: Channel, body: bytes) -> None:
        """Keep an answer; a quarter of those awaited are played together, because a turn costs much more than an answer."""
        self._arrived.append((channel, body))
        loop = asyncio.get_running_loop()
        if len(self._arrived) == max(1, self._awaited // 4):
            if self._timer is not None:
                self._timer.cancel()
            loop.call_soon(self._turn)
        elif len(self._arrived) == 1:
            self._timer = loop.call_later(0.001, self._turn)

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            if isinstance(error, UnavailableError):
                url = f"http://{urls.authority(self._endpoint.host, self._endpoint.port)}{self._endpoint.prefix}"
                ended = f"{self._play.totals.episodes} of {self._play.size} episodes had ended"
                error = UnavailableError(f"{url}: {error}; {ended}; start the service, or give its URL")
            self._error = error
        self._over.set()

    def _turn(self) -> None:
        """Play what arrived, then ask again."""
        if self._over.is_set():
            return
        arrived, self._arrived, self._timer = self._arrived, [], None
        self._awaited -= len(arrived)
        try:
            self._ask(self._settle(arrived))
        except Exception as error:
            self._fail(error)
            if not isinstance(error, RecsysError):
                raise

    def _settle(self, arrived: list[tuple[Channel, bytes]]) -> np.ndarray:
        """Take in the answers; returns the slots that have something to tell."""
        play = self._play
        slots: list[int] = []
        tracks: list[int] = []
        for channel, body in arrived:
            asked = channel.asked
            leaving = self._leaving[asked].tolist()
            tracks += self._codec.decode(body, [self._users[slot] for slot in asked], leaving)
            slots += asked
        told = np.array(slots, np.int64)
        left = self._leaving[told]
        ended, going = told[left], told[~left]
        if len(ended):
            play.end(ended)
            self._leaving[ended] = False
        if len(going):
            self._leaving[going] = play.answer(going, np.array(tracks, np.int64)[~left])
        free = np.concatenate([ended, self._idle]) if len(ended) or len(self._idle) else self._idle
        started = play.start(free) if len(free) else free
        self._idle = free[len(started) :]
        return np.concatenate([going, started])

    def _ask(self, slots: np.ndarray) -> None:
        """Send the latest plays of sessions, each over the channel of its slot, unless that is busy."""
        touched: dict[int, None] = {}
        for slot in slots.tolist():
            number = slot // self._width
            self._ready[number].append(slot)
            touched[number] = None
        sending = [n for n in touched if not self._channels[n].busy]
        if self._play.done:
            self._over.set()
        if not sending:
            return
        self._awaited += len(sending)
        ready = [slot for n in sending for slot in self._ready[n]]
        plays: Plays = self._play.plays(np.array(ready, np.int64))
        rows = list(zip(*(column.tolist() for column in plays), strict=True))
        leaving = self._leaving[ready].tolist()
        begin = 0
        for n in sending:
            asked = self._ready[n]
            end = begin + len(asked)
            for slot, row in zip(asked, rows[begin:end], strict=True):
                self._users[slot] = row[0]
            self._channels[n].asked, self._ready[n] = asked, []
            self._channels[n].send(self._codec.encode(rows[begin:end], leaving[begin:end]))
            begin = end


def _json(body: bytes) -> object:
    try:
        found: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise SimulationError(f"the service answered something that is not JSON: {body[:80]!r}") from None
    return found


def _track(answer: object, user: int, leaving: bool, tracks: int) -> int:
    """The track of one answer, checked."""
    if type(answer) is not dict:
        raise SimulationError(f"user {user} got {answer!r}, which is not a JSON object")
    answered = answer.get("user")
    # The original's service answers with the user as it stood in the path.
    if answered != user and answered != str(user):
        raise SimulationError(f"user {user} got an answer for user {answered!r}")
    if leaving:
        return -1
    track = answer.get("track")
    if type(track) is not int or not 0 <= track < tracks:
        raise unknown_track(track, user, tracks)
    return track
