"""A rollout: a candidate served to a growing share of listeners, changed by compare-and-set inside Redis, each change audited.

In go a client and a candidate; out come sentences that say what happened, or the :class:`Rollout`. Who decides what happens next
stands in :mod:`recsys.rollout`.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

import redis

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.experiments import Split
from recsys.versions import keyspace, lease, pointer
from recsys.versions.content import version_date
from recsys.versions.functions import LIBRARY
from recsys.versions.lease import Lease

State = Literal["none", "serving", "held", "aborted", "done"]
_STATES: tuple[State, ...] = ("none", "serving", "held", "aborted", "done")
_BEGINNING = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Rollout:
    """The newest rollout.

    Attributes:
        candidate, log_date: the version that is rolled out, and its date. live: the version that it is compared with.
        state: none before the first one; held: at its share until a person decides; aborted and done: over.
        stage: its number, from 1. share: percent of listeners who get the candidate, 0 once it is over.
        experiment: name of the stage's experiment in the log. since, began: when the stage and the rollout began, UTC.
        generation: number of the last change. who, reason: whose it was, and why.
    """

    candidate: str = ""
    log_date: str = ""
    live: str = ""
    state: State = "none"
    stage: int = 0
    share: float = 0.0
    experiment: str = ""
    since: datetime = _BEGINNING
    began: datetime = _BEGINNING
    generation: int = 0
    who: str = ""
    reason: str = ""

    @property
    def is_under_way(self) -> bool:
        """Whether somebody gets the candidate."""
        return self.share > 0

    @property
    def split(self) -> Split:
        """How listeners are dealt."""
        return Split(self.experiment, self.candidate, self.live, self.share)

    @property
    def told(self) -> str:
        """One sentence about it."""
        if self.state == "none":
            return "no rollout has begun yet"
        if not self.is_under_way:
            ended = {"done": "is live", "aborted": "was taken back"}[self.state]
            return f"no rollout is under way; the last candidate, {self.candidate}, {ended}: {self.reason}"
        held = "; it is held until a person decides" if self.state == "held" else ""
        return f"{self.candidate} is served to {self.share:g} % of listeners since {self.since:%Y-%m-%d %H:%M} UTC{held}"


def read(client: redis.Redis) -> Rollout:
    """The rollout.

    Raises:
        CorruptDataError: Redis holds something else in its place.
    """
    found = {keyspace.text(k): keyspace.text(v) for k, v in client.hgetall(keyspace.ROLLOUT).items()}
    if not found:
        return Rollout()
    try:
        if found["state"] not in _STATES:
            raise ValueError(found["state"])
        return Rollout(
            found["candidate"],
            found["log_date"],
            found["live"],
            found["state"],
            int(found["stage"]),
            float(found["share"]),
            found["experiment"],
            _moment(found["since"]),
            _moment(found["began"]),
            int(found["generation"]),
            found["who"],
            found["reason"],
        )
    except (KeyError, ValueError, OverflowError, OSError) as error:
        raise CorruptDataError(
            f"Redis holds no rollout in {keyspace.ROLLOUT} ({error!r}); delete that key: live serves all"
        ) from None


def begin(
    client: redis.Redis, version: str, log_date: date, live: str, share: float, *, who: str, why: str, held: Lease | None = None
) -> tuple[bool, str]:
    """Serve a candidate to a first share of listeners, unless another one is under way.

    Args:
        live: the version that it is compared with, which must still be live. share: percent.
        held: the lease of the run that begins it; a person needs none.

    Returns:
        Whether it is served now, and a sentence that says why or why not.

    Raises:
        MissingDataError: the version is not in Redis. ConflictError: the run has lost its lease.
    """
    keys = (keyspace.ROLLOUT, keyspace.LIVE, keyspace.BLOCKED, keyspace.AUDIT, keyspace.LEASES, keyspace.version_key(version))
    args = (version, str(log_date), live, f"{share:g}", who, why, held.token if held else "")
    outcome, about, _ = client.fcall(LIBRARY.function("begin"), len(keys), *keys, *args)
    word, about = keyspace.text(outcome), keyspace.text(about)
    if word == "lost" and held:
        raise lease.lost(client, held)
    _require_there(word, version)
    sentences = {
        "begun": f"{version} is served to {share:g} % of listeners",
        "already": f"{version} is being rolled out already",
        "busy": f"the rollout of {about} is under way; it ends first, or 'recsys rollout abort' ends it",
        "nothing": "nothing is live yet, with which it could be compared",
        "live": f"{version} is live already",
        "moved": f"the live version moved to {about} meanwhile",
        "older": f"the live version {about} is of a later log date",
        **_stopped(version),
    }
    return word in ("begun", "already"), sentences[word]


def advance(client: redis.Redis, seen: Rollout, stage: int, share: float, *, who: str, why: str) -> tuple[bool, str]:
    """Serve the candidate to more listeners, if nothing has changed since it was ``seen``; at 100 percent it becomes live.

    Returns:
        Whether something has changed, and a sentence that says why or why not.

    Raises:
        MissingDataError: the version is not in Redis.
    """
    version = seen.candidate
    keys = (keyspace.ROLLOUT, keyspace.LIVE, keyspace.BLOCKED, keyspace.AUDIT, keyspace.version_key(version))
    args = (version, seen.generation, stage, f"{share:g}", who, why)
    outcome, _, _ = client.fcall(LIBRARY.function("advance"), len(keys), *keys, *args)
    word = keyspace.text(outcome)
    _require_there(word, version)
    sentences = {
        "advanced": f"{version} is served to {share:g} % of listeners",
        "promoted": f"{version} is live now (generation {pointer.read(client).generation})",
        "already": f"{version} is served to {share:g} % of listeners or more already",
        **_changed(client),
        **_stopped(version),
    }
    return word in ("advanced", "promoted"), sentences[word]


def pause(client: redis.Redis, seen: Rollout, *, who: str, why: str) -> tuple[bool, str]:
    """Leave the candidate at its share until a person decides, if nothing has changed since it was ``seen``."""
    args = (seen.candidate, seen.generation, who, why)
    outcome, _, _ = client.fcall(LIBRARY.function("pause"), 2, keyspace.ROLLOUT, keyspace.AUDIT, *args)
    sentences = {"held": f"{seen.candidate} stays at {seen.share:g} % of listeners until a person decides", **_changed(client)}
    return outcome == b"held", sentences[keyspace.text(outcome)]


def abort(client: redis.Redis, version: str, *, who: str, why: str) -> tuple[bool, str]:
    """Serve nobody the candidate any more, and block it until it is released; nothing stops that but another candidate."""
    keys = (keyspace.ROLLOUT, keyspace.BLOCKED, keyspace.AUDIT)
    outcome, _, _ = client.fcall(LIBRARY.function("abort"), len(keys), *keys, version, who, why)
    taken = f"{version} was taken back: nobody gets it any more"
    sentences = {
        "aborted": f"{taken}; it is blocked until it is released",
        "untold": f"{taken}; Redis could not take the line of the audit trail or block the version",
        **_changed(client),
    }
    return outcome in (b"aborted", b"untold"), sentences[keyspace.text(outcome)]


def require_under_way(found: Rollout) -> Rollout:
    """The rollout, if one is under way.

    Raises:
        MissingDataError: none is.
    """
    if not found.is_under_way:
        raise MissingDataError(found.told)
    return found


def _changed(client: redis.Redis) -> dict[str, str]:
    now = read(client).told
    return {"over": now, "moved": f"the rollout has changed meanwhile: {now}"}


def _stopped(version: str) -> dict[str, str]:
    return {
        "blocked": f"{version} was rolled back, taken back or held and has not been released",
        "held": "all promotions are held; 'recsys release' ends that",
    }


def _require_there(word: str, version: str) -> None:
    if word == "missing":
        raise MissingDataError(f"version {version} is not in Redis; publish it first")


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(int(text) / 1000, UTC)


def begin_by_hand(client: redis.Redis, version: str, share: float, *, who: str, why: str) -> tuple[bool, str]:
    """Begin a rollout because a person says so, against what is live now."""
    return begin(client, version, version_date(version), pointer.read(client).version, share, who=who, why=why)
