"""What a worker serves from: versions and run specifications, loaded from Redis into process memory when first seen.

A :class:`Version` never changes, so a request that holds one cannot mix two. The live version is looked up five times a second.
"""

import asyncio
import contextlib
import logging
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from recsys.exceptions import CorruptDataError, InvalidInputError, UnavailableError
from recsys.experiments import Arm, Experiment, RunSpec
from recsys.logs.record import preview_base
from recsys.schemas import NEIGHBOURS
from recsys.service.choose import Candidates, from_any, from_list
from recsys.service.link import RedisDownError, RedisLink
from recsys.service.session import SessionChooser
from recsys.service.single_flight import SingleFlight
from recsys.versions import keyspace
from recsys.versions.session_lists import SessionLists

log = logging.getLogger(__name__)

LIVE_EVERY = 0.2
CACHED_RUNS = 256


@dataclass(frozen=True)
class Version:
    """The catalogue-sized parts of a published version; ``lists`` holds the key of each user bucket's lists."""

    name: str
    top: Sequence[int]
    neighbours: "array[int]" = field(default_factory=lambda: array("I"), repr=False)
    lists: tuple[str, ...] = ()
    sessions: SessionChooser | None = field(default=None, repr=False)

    @classmethod
    def named(cls, name: str, top: Sequence[int], neighbours: "array[int]", sessions: bytes = b"") -> "Version":
        """A version whose users' lists are in Redis."""
        chooser = SessionChooser(SessionLists.from_bytes(sessions)) if sessions else None
        return cls(name, top, neighbours, _lists(name), chooser)

    def near(self, track: int) -> Sequence[int]:
        """The 20 neighbours of a track; empty if the version has none."""
        return self.neighbours[track * NEIGHBOURS : track * NEIGHBOURS + NEIGHBOURS]


class Slot(NamedTuple):
    """What serves one arm's users (or all of a scope without an experiment): the arm, its version, its part of a log line."""

    arm: Arm | None
    version: Version
    logged: bytes

    @property
    def wants_list(self) -> bool:
        """Whether the arm answers from the user's list."""
        return self.arm is None or self.arm.recommender in ("dae", "session")


class Scope:
    """Where requests of one run (or live traffic) are answered from, and under which name their histories stand.

    Args:
        arm_versions: the version of each arm of the experiment.
        history: prefix of the history key by bucket.
    """

    def __init__(
        self,
        name: str,
        version: Version,
        exploration: float,
        seed: int,
        experiment: Experiment | None = None,
        arm_versions: Sequence[Version] = (),
        history: Sequence[str] = (),
    ) -> None:
        self.name, self.version, self.exploration, self.seed = name, version, exploration, seed
        self.history = history
        self._experiment = experiment
        arms: Sequence[Arm | None] = experiment.arms if experiment else (None,)
        versions = arm_versions if experiment else (version,)
        self.slots = tuple(
            Slot(arm, served_by, self._logged(arm, served_by)) for arm, served_by in zip(arms, versions, strict=True)
        )

    def slot_of(self, user: int) -> Slot:
        """What serves the user."""
        return self.slots[self._experiment.slot_of(user)] if self._experiment else self.slots[0]

    def from_version(self, slot: Slot, version: Version) -> Slot:
        """The same arm, served by another version."""
        return Slot(slot.arm, version, self._logged(slot.arm, version))

    def _logged(self, arm: Arm | None, version: Version) -> bytes:
        experiments = {self._experiment.name: arm.name} if self._experiment and arm else {}
        return orjson.dumps({"experiments": experiments, "run": self.name, "version": version.name})[1:-1]


def candidates(
    arm: Arm | None, version: Version, listed: "array[int]", plays: Sequence[int], played: AbstractSet[int]
) -> Candidates:
    """What the arm would answer now: its recommender's candidates, else an unplayed track of the TOP 100, else none.

    Without an arm, a version that has lists by first track answers by them.

    Args:
        listed: the user's tracks and taste, as published.
        plays: track and time of each play of the session, one after another. played: its tracks.
    """
    recommender = arm.recommender if arm else "session"
    track = plays[-2]
    listed, taste = keyspace.split(listed)
    found: Candidates | None = None
    if recommender == "session" and version.sessions:
        found = version.sessions.best(plays, played, taste)
    if recommender in ("dae", "session"):
        found = found or from_list(listed, played, "dae")
    elif recommender == "contextual":
        found = from_any(version.near(track), played, "contextual")
    return found or from_any(version.top, played, "top100") or Candidates((), "top100")


def _specification(run: str, data: bytes) -> RunSpec:
    try:
        return RunSpec.parse(data, f"run {run} in Redis")
    except CorruptDataError as error:
        raise InvalidInputError(f"run id {run!r} cannot be served: {error}") from None


def _lists(version: str) -> tuple[str, ...]:
    return tuple(keyspace.lists_key(version, b) for b in range(keyspace.BUCKETS))


class Catalogue:
    """Versions and runs known to this worker.

    Args:
        link: the connection to Redis.
        size: number of tracks of the world.
        top: the TOP 100 that answers before any version is live.
        experiment: the experiment that live requests take part in, if any.
        exploration: share of random answers to live requests once a version is live.
        seed: seed of the choices made for live requests.
    """

    def __init__(
        self, link: RedisLink, size: int, top: Sequence[int], experiment: Experiment | None, exploration: float, seed: int
    ) -> None:
        self.link = link
        self.size = size
        self._experiment = experiment
        self._exploration = exploration
        self._seed = seed
        self._versions: dict[str, Version] = {"": Version("", top, lists=_lists(""))}
        self._runs: OrderedDict[str, Scope] = OrderedDict()
        self._loading_versions = SingleFlight(self._load_version)
        self._loading_runs = SingleFlight(self._load_run)
        self._live_history = keyspace.history_prefix("live")
        self.live = self._live_scope(self._versions[""])
        self._generation = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the live version and follow it."""
        await self._follow()
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Stop following."""
        if self._task:
            self._task.cancel()

    def known_scope(self, run: str | None) -> Scope | None:
        """The live scope (None), or that of a run if this worker has it in memory."""
        if run is None:
            return self.live
        scope = self._runs.get(run)
        if scope is not None:
            self._runs.move_to_end(run)
        return scope

    async def scope(self, run: str) -> Scope:
        """The scope of a run id.

        Raises:
            InvalidInputError: malformed or not registered. UnavailableError: Redis is away.
        """
        return self.known_scope(run) or await self._loading_runs.get(run)

    async def _load_run(self, run: str) -> Scope:
        try:
            data = await self.link.fetch("GET", keyspace.run_key(preview_base(run)))
            if data is None:
                raise InvalidInputError(f"run id {run!r} is not registered; publish its version first")
            spec = _specification(run, data)
            version = await self._version(spec.version)
            arms = spec.experiment.arms if spec.experiment else ()
            arm_versions = [await self._version(arm.version or spec.version) for arm in arms]
        except RedisDownError as error:
            raise UnavailableError(str(error)) from None
        scope = Scope(run, version, spec.exploration, spec.seed, spec.experiment, arm_versions, keyspace.history_prefix(run))
        self._runs[run] = scope
        while len(self._runs) > CACHED_RUNS:
            self._runs.popitem(last=False)
        return scope

    async def _version(self, name: str) -> Version:
        return self._versions.get(name) or await self._loading_versions.get(name)

    async def _load_version(self, name: str) -> Version:
        top, neighbours, sessions = await asyncio.gather(
            self.link.fetch("GET", keyspace.version_key(name, "top")),
            self.link.fetch("GET", keyspace.version_key(name, "neighbours")),
            self.link.fetch("GET", keyspace.version_key(name, "sessions")),
        )
        if top is None:
            raise InvalidInputError(f"version {name!r} is not in Redis; publish it again or restore the live version")
        try:
            version = Version.named(name, tuple(keyspace.unpack(top)), keyspace.unpack(neighbours or b""), sessions or b"")
        except (CorruptDataError, ValueError) as error:
            raise InvalidInputError(f"version {name!r} cannot be served: {error}") from None
        self._versions[name] = version
        self._forget()
        log.info("loaded version %s", name)
        return version

    def _forget(self) -> None:
        used = {"", self.live.version.name}
        for scope in self._runs.values():
            used.update((scope.version.name, *(slot.version.name for slot in scope.slots)))
        for name in [n for n in self._versions if n not in used][:-8]:
            del self._versions[name]

    def _live_scope(self, version: Version) -> Scope:
        share = self._exploration if version.name else 0.0
        arms = len(self._experiment.arms) if self._experiment else 0
        return Scope("live", version, share, self._seed, self._experiment, (version,) * arms, self._live_history)

    def loaded(self, name: str) -> Version | None:
        """A version if this worker has it in memory."""
        return self._versions.get(name)

    async def _follow(self) -> None:
        try:
            reply = await self.link.call("HMGET", keyspace.LIVE, "version", "generation")
            held, number = reply if isinstance(reply, list) else (None, None)
            name, generation = (held or b"").decode(), int(number or 0)
            if generation < self._generation:
                self.link.note(
                    f"what is live went back from generation {self._generation} to {generation}: older data was restored; "
                    "recsys restore-live brings the newest back"
                )
            self._generation = generation
            if name != self.live.version.name:
                self.live = self._live_scope(await self._version(name))
                log.info("live version is now %s", name or "none")
        except InvalidInputError as error:
            self.link.note(str(error))
        except RedisDownError:
            pass

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LIVE_EVERY)
            with contextlib.suppress(Exception):
                await self._follow()
