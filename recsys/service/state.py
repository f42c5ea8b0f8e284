"""What a worker serves from: versions and run specifications, loaded from Redis into process memory when first seen.

A :class:`Version` never changes, so a request that holds one cannot mix two. What is live, and the candidate that some get
instead, are looked up five times a second.
"""

import asyncio
import contextlib
import logging
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import orjson

from recsys.exceptions import CorruptDataError, InvalidInputError, UnavailableError
from recsys.experiments import Arm, Experiment, Recommender, RunSpec, Split
from recsys.logs.record import preview_base
from recsys.schemas import NEIGHBOURS
from recsys.service.link import RedisDownError, RedisLink, RedisReplyError, Reply
from recsys.service.offered import ASK, Offer
from recsys.service.session import SessionChooser
from recsys.service.single_flight import SingleFlight
from recsys.service.world import Neighbours, World
from recsys.versions import keyspace
from recsys.versions.session_lists import SessionLists

log = logging.getLogger(__name__)

LIVE_EVERY = 0.2
#: Recommenders that answer from the user's list.
LISTED: tuple[Recommender, ...] = ("dae", "session")
#: What listeners are answered from who have no list: the lists of the session's own first track, the neighbours of the previous
#: track, the TOP 100. Who begins further back leaves the first ones out.
NEWCOMERS = ("session", "contextual", "top100")
CACHED_RUNS = 256


@dataclass(frozen=True)
class Version:
    """The catalogue-sized parts of a published version.

    ``lists`` holds the key of each user bucket's lists, ``others`` the neighbours of tracks that have none in the version.
    """

    name: str
    top: Sequence[int]
    neighbours: "array[int]" = field(default_factory=lambda: array("I"), repr=False)
    lists: tuple[str, ...] = ()
    sessions: SessionChooser | None = field(default=None, repr=False)
    others: Neighbours | None = field(default=None, repr=False)

    @classmethod
    def named(cls, name: str, top: Sequence[int], neighbours: "array[int]", sessions: bytes = b"") -> "Version":
        """A version whose users' lists are in Redis."""
        chooser = SessionChooser(SessionLists.from_bytes(sessions)) if sessions else None
        return cls(name, top, neighbours, _lists(name), chooser)

    def near(self, track: int) -> Sequence[int]:
        """The 20 neighbours of a track, else those that the world's files give it; empty if there are none."""
        found = self.neighbours[track * NEIGHBOURS : track * NEIGHBOURS + NEIGHBOURS]
        return found or (self.others.near(track) if self.others else ())

    def beside(self, world: World) -> "Version":
        """The same, with a world's neighbours for tracks that have none here."""
        return replace(self, others=world.neighbours) if world.neighbours else self

    @cached_property
    def size(self) -> int:
        """How many tracks the catalogue had when the version was made, as far as its parts tell."""
        return max(len(self.neighbours) // NEIGHBOURS, self.sessions.size if self.sessions else 0)


class Slot(NamedTuple):
    """What serves one arm's users (or all of a scope without an experiment): the arm, its version, its part of a log line.

    ``exploration`` is the share of random answers.
    """

    arm: Arm | None
    version: Version
    exploration: float
    logged: bytes

    @property
    def wants_list(self) -> bool:
        """Whether the arm answers from the user's list."""
        return self.arm is None or self.arm.recommender in LISTED


class Scope:
    """Where requests of one run (or live traffic) are answered from, and under which name their histories stand.

    Args:
        world: the tracks that may be played and answered.
        arm_versions: the version of each arm of the experiment.
        history: prefix of the history key by bucket.
        newcomers: what listeners are answered from whom the version does not know, as
            :func:`recsys.service.candidates.candidates` takes it.
        offered: the rollout's candidate and who gets it instead, if one is under way.
        withdrawn: name of a candidate that nobody may get any more, not even again.
    """

    def __init__(
        self,
        name: str,
        version: Version,
        exploration: float,
        seed: int,
        world: World,
        experiment: Experiment | None = None,
        arm_versions: Sequence[Version] = (),
        history: Sequence[str] = (),
        newcomers: Sequence[str] = NEWCOMERS,
        offered: tuple[Split, Version] | None = None,
        withdrawn: str = "",
    ) -> None:
        self.name, self.exploration, self.seed, self.world = name, exploration, seed, world
        self.history, self.newcomers, self.withdrawn = history, newcomers, withdrawn
        self.split = offered[0] if offered else None
        candidate = offered[1] if offered else version
        self._experiment = experiment
        arms: Sequence[Arm | None] = experiment.arms if experiment else (None,)
        versions = arm_versions if experiment else (version,)
        #: A version may be older than the catalogue, or newer.
        self.stock = world.stock.without(range(world.stock.size, max(each.size for each in (version, candidate, *versions))))
        self.version = version.beside(world)
        self.slots = tuple(self._slot(arm, served_by) for arm, served_by in zip(arms, versions, strict=True))
        self._offered = tuple(self._slot(arm, candidate) for arm in arms) if self.split else ()
        self._refrained = tuple(self._slot(arm, version, Split.CANDIDATE) for arm in arms) if self.split else ()

    def slot_of(self, user: int | str, *, safely: bool = False) -> Slot:
        """What serves the user, whose id counts as it was given; ``safely``: no candidate, which may have been taken back."""
        slots = self.slots
        if self.split is not None and self.split.takes(user):
            slots = self._refrained if safely else self._offered
        return slots[self._experiment.slot_of(user)] if self._experiment else slots[0]

    def from_version(self, slot: Slot, version: Version) -> Slot:
        """The same arm, served by another version."""
        return self._slot(slot.arm, version)

    def _slot(self, arm: Arm | None, version: Version, dealt: Arm | None = None) -> Slot:
        experiments = {self._experiment.name: arm.name} if self._experiment and arm else {}
        if self.split:
            arms = {self.split.candidate: Split.CANDIDATE, self.split.live: Split.LIVE}
            dealt = dealt or arms.get(version.name)
            experiments |= {self.split.name: dealt.name} if dealt else {}
        logged = orjson.dumps({"experiments": experiments, "run": self.name, "version": version.name})[1:-1]
        # Live requests are not explored with while nothing is live.
        exploration = self.exploration if version.name or self.name != "live" else 0.0
        return Slot(arm, version.beside(self.world), exploration, logged)


def _lists(version: str) -> tuple[str, ...]:
    return tuple(keyspace.lists_key(version, b) for b in range(keyspace.BUCKETS))


class Catalogue:
    """Versions and runs known to this worker.

    Args:
        link: the connection to Redis.
        world: the files of the world.
        experiment: the experiment that live requests take part in, if any.
        exploration: share of random answers to live requests once a version is live.
        seed: seed of the choices made for live requests.
        newcomers: as :class:`Scope` takes it.
    """

    def __init__(
        self,
        link: RedisLink,
        world: World,
        experiment: Experiment | None,
        exploration: float,
        seed: int,
        newcomers: Sequence[str] = NEWCOMERS,
    ) -> None:
        self.link = link
        self._world = world
        self._experiment = experiment
        self._exploration = exploration
        self._seed = seed
        self._newcomers = newcomers
        self._versions: dict[str, Version] = {"": Version("", world.top, lists=_lists(""))}
        self._runs: OrderedDict[str, Scope] = OrderedDict()
        self._loading_versions = SingleFlight(self._load_version)
        self._loading_runs = SingleFlight(self._load_run)
        self._live_history = keyspace.history_prefix("live")
        self._offer = Offer()
        self.live = self._live_scope("")
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

    def take(self, world: World) -> None:
        """Answer from another state of the world's files from the next request on."""
        self._world = world
        self._versions[""] = Version("", world.top, lists=_lists(""))
        self.live = self._live_scope(self.live.version.name)
        # Their tracks are their own, but not what these are called: who is asked for comes back.
        self._runs.clear()

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
            spec = RunSpec.parse(data, f"run {run} in Redis")
            version = await self._version(spec.version)
            arms = spec.experiment.arms if spec.experiment else ()
            arm_versions = [await self._version(arm.version or spec.version) for arm in arms]
        except CorruptDataError as error:
            raise InvalidInputError(f"run id {run!r} cannot be served: {error}") from None
        except RedisDownError as error:
            raise UnavailableError(str(error)) from None
        world = self._world.of_run(spec.catalogue, frozenset(spec.retired))
        if not world.stock.available:
            raise InvalidInputError(f"run id {run!r} cannot be served: all its tracks are retired")
        history = keyspace.history_prefix(run)
        scope = Scope(run, version, spec.exploration, spec.seed, world, spec.experiment, arm_versions, history, self._newcomers)
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
        used = {"", self.live.version.name, self._offer.split.candidate if self._offer.split else ""}
        for scope in self._runs.values():
            used.update((scope.version.name, *(slot.version.name for slot in scope.slots)))
        for name in [n for n in self._versions if n not in used][:-8]:
            del self._versions[name]

    def _live_scope(self, name: str) -> Scope:
        version = self._versions[name]
        arms = len(self._experiment.arms) if self._experiment else 0
        versions, history = (version,) * arms, self._live_history
        split, withdrawn = self._offer
        offered = (split, self._versions[split.candidate]) if split else None
        served = (self._experiment, versions, history, self._newcomers, offered, withdrawn)
        return Scope("live", version, self._exploration, self._seed, self._world, *served)

    def loaded(self, name: str) -> Version | None:
        """A version if this worker has it in memory."""
        return self._versions.get(name)

    async def _follow(self) -> None:
        try:
            # In this order: who sees that a rollout has ended sees what it has made live.
            asked, live = self.link.call(*ASK), self.link.call("HMGET", keyspace.LIVE, "version", "generation")
            offered, reply = await asyncio.gather(asked, live, return_exceptions=True)
            if isinstance(reply, BaseException):
                raise reply
            held, number = reply if isinstance(reply, list) else (None, None)
            name, generation = (held or b"").decode(), int(number or 0)
            if generation < self._generation:
                self.link.note(
                    f"what is live went back from generation {self._generation} to {generation}: older data was restored; "
                    "recsys restore-live brings the newest back"
                )
            self._generation = generation
            offer = self._offer_of(offered, name)
            if offer != self._offer:
                # First nobody gets the old candidate any more, then others get the new one.
                self._show(self.live.version.name, Offer(None, offer.withdrawn))
            if name != self.live.version.name:
                await self._version(name)
                self._show(name, self._offer)
                log.info("live version is now %s", name or "none")
            if offer.split and offer != self._offer:
                await self._version(offer.split.candidate)
                self._show(name, offer)
                log.info("%s is served to %g %% of listeners", offer.split.candidate, offer.split.share)
        except InvalidInputError as error:
            self.link.note(str(error))
        except RedisDownError:
            # Whether the candidate has been taken back meanwhile, nobody knows.
            if self._offer.split:
                self._show(self.live.version.name, Offer())

    def _offer_of(self, reply: Reply | BaseException, live: str) -> Offer:
        try:
            if isinstance(reply, BaseException):
                raise reply
            return Offer.of(reply, live)
        except (RedisReplyError, ValueError) as error:
            self.link.note(f"the rollout cannot be read, and what is live serves all: {error}")
            return Offer()

    def _show(self, name: str, offer: Offer) -> None:
        """Serve live requests from a loaded version, and the candidate of an offer, from the next one on."""
        self._offer = offer
        self.live = self._live_scope(name)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LIVE_EVERY)
            with contextlib.suppress(Exception):
                await self._follow()
