"""A look at the rollout under way, and what comes of it: for the pointer, the audit trail, and the night that made the candidate.

In go settings and a time; out come a :class:`~recsys.rollout.look.Look` and a changed rollout. A candidate is taken back first,
which is explained in files afterwards: who is killed in between leaves listeners where they belong, and the next try explains it.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import redis

from recsys.exceptions import CorruptDataError, InvalidInputError, MissingDataError, UnavailableError
from recsys.night.night import Night
from recsys.night.promote import record
from recsys.night.report import finish_report
from recsys.rollout.evidence import evidence
from recsys.rollout.look import Look, Looks, look
from recsys.rollout.rule import load_rule
from recsys.schemas import Verdict
from recsys.settings import Settings
from recsys.storage.layout import parse_date
from recsys.storage.store import Storage
from recsys.versions import restore, rollout
from recsys.versions.rollout import Rollout

log = logging.getLogger(__name__)

#: How far the clocks of two machines may be apart.
CLOCKS = timedelta(minutes=5)


def look_and_act(settings: Settings, client: redis.Redis, at: datetime, *, who: str) -> tuple[Look | None, str]:
    """Look at the stage under way as it stood at a time, UTC, and do what follows.

    A time before the stage began, or before that of a later look at it, changes nothing: a backfill replays. Who was killed
    after the change that follows, and tries again under the same name, gets the same look, and changes nothing either.

    Returns:
        The look, if there was something to look at; a sentence about what has come of it.

    Raises:
        UnavailableError: the stage began in the future, by this machine's clock.
    """
    now, store = rollout.read(client), Storage(settings.storage_url)
    if again := _earlier_try(settings, store, now, at, who):
        explain(settings, client)
        return again, now.told
    if not now.is_under_way:
        settle(settings, now)
        return None, now.told
    if now.since > datetime.now(UTC) + CLOCKS:
        raise UnavailableError(
            f"{now.told}, which lies in the future: the clock here or that of Redis is wrong, and no look sees what listeners "
            "do; set it, or 'recsys rollout abort'"
        )
    if at <= now.since:
        return None, f"{now.told}; that is after {at:%Y-%m-%d %H:%M} UTC"
    earlier = [one for one in looks(store, now).looks if one.experiment == now.experiment]
    rule = load_rule(settings.rollout)
    found = look(now, evidence(settings, store, now.experiment, now.since, at), rule, at)
    if earlier and earlier[-1].at > at:
        return found, f"at {at:%Y-%m-%d %H:%M} UTC it was: {found.action}, {found.reason}; there has been a later look"
    why, said = f"{found.reason}.", f"{now.told}: {found.reason}"
    if found.action == "abort":
        said = rollout.abort(client, now.candidate, who=who, why=why)[1]
    _keep(store, now, found)
    if found.action == "advance":
        number, stage = rule.after(now.share)
        said = rollout.advance(client, now, number, stage.share, who=who, why=why)[1]
    elif found.action == "hold":
        said = rollout.pause(client, now, who=who, why=why)[1]
    explain(settings, client)
    log.info("%s: %s; %s", found.action, found.reason, said)
    return found, said


def _earlier_try(settings: Settings, store: Storage, now: Rollout, at: datetime, who: str) -> Look | None:
    """The look that made ``who`` change the rollout last, at the same time; it is written unless it is there."""
    if now.who != who:
        return None
    acted = [one for one in looks(store, now).looks if one.action != "stay"]
    if written := [one for one in acted if one.at == at]:
        return written[-1]
    if now.state != "aborted" or any((one.experiment, one.action) == (now.experiment, "abort") for one in acted):
        return None
    rule = load_rule(settings.rollout)
    share = rule.stages[min(now.stage, len(rule.stages)) - 1].share  # somebody may have edited the rule
    then = replace(now, state="serving", share=share, since=now.began)
    found = look(then, evidence(settings, store, now.experiment, now.began, at), rule, at)
    _keep(store, now, found)
    return found


def _keep(store: Storage, now: Rollout, found: Look) -> None:
    """Write a look beside those before."""
    with store.stage(Looks.KIND.on(parse_date(now.log_date))) as staging:
        looks(store, now).with_one(found).write(staging)


def looks(store: Storage, now: Rollout) -> Looks:
    """All looks at the rollouts of a date's candidates so far; damaged ones are none, and keep nobody from looking again."""
    try:
        return (Looks.find(store, parse_date(now.log_date)) or Looks()) if now.log_date else Looks()
    except CorruptDataError as error:
        log.warning("looks so far are lost: %s", error)
        return Looks()


def advance(settings: Settings, client: redis.Redis, share: float, version: str | None = None, *, who: str, why: str) -> str:
    """Serve the candidate to a larger share because a person says so; a second time nothing happens. Returns a sentence.

    Args:
        version: the candidate, if it must be this one.

    Raises:
        InvalidInputError: no stage has this share. MissingDataError: no rollout, or that of another version, is under way.
    """
    Storage(settings.storage_url).require_writable()
    now = rollout.require_under_way(rollout.read(client))
    if version not in (None, now.candidate):
        raise MissingDataError(f"{version} is not being rolled out: {now.told}")
    shares = [stage.share for stage in load_rule(settings.rollout).stages]
    if share not in shares:
        raise InvalidInputError(f"share {share:g} is that of no stage; they are {', '.join(f'{one:g}' for one in shares)}")
    said = rollout.advance(client, now, shares.index(share) + 1, share, who=who, why=why)[1]
    explain(settings, client)
    return said


def begin(settings: Settings, client: redis.Redis, version: str, *, who: str, why: str) -> str:
    """Begin a rollout because a person says so; returns a sentence.

    Raises:
        InvalidInputError: the rule has no share below 100 percent. MissingDataError: the version is not in Redis.
    """
    Storage(settings.storage_url).require_writable()
    share = load_rule(settings.rollout).stages[0].share
    if share == 100:
        raise InvalidInputError("the rollout rule has no stage below 100 percent; 'recsys promote' makes a version live at once")
    said = rollout.begin_by_hand(client, version, share, who=who, why=why)[1]
    explain(settings, client)
    return said


def abort(settings: Settings, client: redis.Redis, version: str | None, *, who: str, why: str) -> str:
    """Take a candidate back because a person says so, whatever else is broken; returns a sentence."""
    candidate = version or rollout.read(client).candidate
    said = rollout.abort(client, candidate, who=who, why=why)[1] if candidate else rollout.read(client).told
    log.info("%s", said)
    explain(settings, client)
    return said


def explain(settings: Settings, client: redis.Redis) -> None:
    """Copy what is live to the storage, and tell the night of a rollout that is over what came of its candidate."""
    restore.save(client, Storage(settings.storage_url))
    settle(settings, rollout.read(client))


def settle(settings: Settings, now: Rollout) -> None:
    """Give the night of a rollout that is over its verdict, unless it has it."""
    if now.is_under_way or not now.log_date:
        return
    night = Night(parse_date(now.log_date), settings)
    done = Verdict.find(night.store, night.log_date)
    if done is None or (done.version, done.verdict) != (now.candidate, "rolling_out"):
        return
    ended = f"Taken back: {now.reason}" if now.state == "aborted" else f"Live: {now.reason}"
    verdict = done.model_copy(
        update={
            "verdict": "held" if now.state == "aborted" else "promoted",
            "reasons": [*done.reasons, f"{ended.removesuffix('.')}."],
            "live": now.live if now.state == "aborted" else now.candidate,
        }
    )
    record(night, verdict)
    finish_report(night, verdict)


def until(text: str | None) -> datetime:
    """A time that a person gives, or now; UTC unless it says otherwise.

    Raises:
        InvalidInputError: it is no time, or lies in the future.
    """
    now = datetime.now(UTC)
    if text is None:
        return now
    try:
        found = datetime.fromisoformat(text)
        at = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInputError(f"time {text!r} is not of the form YYYY-MM-DDTHH:MM, such as 2026-11-23T14:00") from None
    if at > now:
        raise InvalidInputError(f"time {text} lies in the future; a look sees what has been")
    return at
