"""Live listeners over HTTP, who keep their own record of what they sent and were answered.

A listener plays what is answered. What was not answered is sent again with the same event key, as a front end does, until it is.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from tests.nemesis.ending import end

HOST = "127.0.0.1"
#: Seconds that a listener waits for an answer, and between two tries.
PATIENCE, PAUSE = 3.0, 0.15
#: Seconds between two plays.
THOUGHT = 0.12
#: Answers that ask for another try.
AGAIN = (429, 502, 503, 504)


@dataclass
class Event:
    """What a listener did, and what came of it.

    Attributes:
        tries: status or error of each try. answered: whether one of them was answered with status 200. answer: the track.
        sent, done: when it was first sent, and answered, in seconds since the epoch.
    """

    user: int
    key: str
    last: bool
    track: int
    time: float
    sent: float = 0.0
    done: float = 0.0
    tries: list[int | str] = field(default_factory=list)
    answered: bool = False
    answer: int | None = None


class Listeners:
    """Some listeners, each with users of its own.

    Args:
        port: of the service. users: theirs. tracks: size of the catalogue. count: how many listen at once.
        record: gets a line for each event when it is over.
    """

    def __init__(self, port: int, users: Sequence[int], tracks: int, count: int, seed: str, record: Path) -> None:
        self.events: list[Event] = []
        self._port, self._tracks, self._record = port, tracks, record
        self._over = False
        self._rngs = [Random(f"{seed} {number}") for number in range(count)]
        self._users = [list(users[number::count]) for number in range(count)]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen."""
        self._tasks = [asyncio.create_task(self._listen(*each)) for each in zip(self._rngs, self._users, strict=True)]

    async def stop(self, seconds: float) -> list[Event]:
        """Let each listener get the answer that it waits for; gives the events that were not answered within so many seconds."""
        self._over = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        await end(self._tasks)
        self._record.write_text("".join(json.dumps(asdict(event)) + "\n" for event in self.events))
        return [event for event in self.events if not event.answered]

    async def _listen(self, rng: Random, users: list[int]) -> None:
        connection = _Connection(self._port)
        try:
            while not self._over:
                user = rng.choice(users)
                track: int | None = rng.randrange(self._tracks)
                for _ in range(rng.randint(1, 12)):
                    if self._over or track is None:
                        return
                    track = await self._tell(connection, rng, user, track, last=False)
                if not self._over and track is not None and rng.random() < 0.9:
                    await self._tell(connection, rng, user, track, last=True)
        finally:
            connection.close()

    async def _tell(self, connection: "_Connection", rng: Random, user: int, track: int, *, last: bool) -> int | None:
        event = Event(user, f"n{len(self.events)}", last, track, round(rng.random(), 2))
        self.events.append(event)
        body = json.dumps({"track": track, "time": event.time, "event": event.key}).encode()
        path = f"/{'last' if last else 'next'}/{user}"
        event.sent = time.time()
        while not event.answered:
            try:
                status, answer = await asyncio.wait_for(connection.post(path, body), PATIENCE)
            except (OSError, TimeoutError, EOFError) as error:
                connection.close()
                event.tries.append(type(error).__name__)
                await asyncio.sleep(PAUSE)
                continue
            event.tries.append(status)
            if status == 200:
                event.answered, event.answer, event.done = True, json.loads(answer).get("track"), time.time()
            elif status in AGAIN:
                await asyncio.sleep(PAUSE)
            else:
                return None
        await asyncio.sleep(THOUGHT * rng.uniform(0.5, 1.5))
        return event.answer


class _Connection:
    """One connection that is opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        self._writer.write(f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        lengths = [line.partition(":")[2] for line in head.split("\r\n") if line.startswith("content-length:")]
        answer = await self._reader.readexactly(int(lengths[0]) if lengths else 0)
        if "connection: close" in head:
            self.close()
        return status, answer

    def close(self) -> None:
        """Close it."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.transport.abort()
            self._writer = None
