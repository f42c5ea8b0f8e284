"""Publishing and promotion: killed at any step, they leave nothing by halves, and the rerun completes it; what a hold leaves."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import Connection

from recsys.abtest.schema import Report
from recsys.exceptions import MissingDataError
from recsys.experiments import Arm, Experiment
from recsys.night import promote, report, steps
from recsys.night.night import Night
from recsys.schemas import Verdict
from recsys.settings import load_settings
from recsys.versions import keyspace, lease, pointer, publish, restore
from recsys.versions.content import Content
from recsys.versions.pointer import Pointer
from tests.support.components import Valkey
from tests.support.documents import experiment, inputs, night_of
from tests.support.documents import publish as document
from tests.support.traffic import records

pytestmark = pytest.mark.slow

DAY = date(2026, 1, 5)


class Killed(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


def content(shift: int = 0) -> Content:
    lists = {user: keyspace.pack(range(user + shift, user + shift + 50)) for user in range(400)}
    return Content(lists, keyspace.pack(range(100)), keyspace.pack(range(2000)), b"sessions")


@contextmanager
def killed_at(moment: int, sent: bool) -> Iterator[None]:
    """The process ends when it sends for the ``moment``-th time, after what is sent has left (``sent``) or before."""
    moments, send = itertools.count(), Connection.send_packed_command

    def dying(self: Connection, command: Any, check_health: bool = True) -> None:
        last = next(moments) == moment
        if sent or not last:
            send(self, command, check_health)
        if last:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "send_packed_command", dying)
        yield


@pytest.mark.drill("publisher", "killed at any command", "what is there cannot be made live; the rerun completes it")
@pytest.mark.parametrize("sent", [False, True])
def test_a_publisher_killed_at_any_command_leaves_nothing_that_can_be_promoted(valkey: Valkey, sent: bool) -> None:
    settings = load_settings(redis_url=valkey.url)
    version = f"{DAY}-{content().checksum[:8]}"
    for moment in itertools.count():
        client = keyspace.connect(settings)
        client.flushall()
        try:
            with killed_at(moment, sent):
                publish.publish_version(client, content(), DAY, held=lease.take(client, DAY, "night"))
        except Killed:
            client = keyspace.connect(settings)
        else:
            break
        if client.hget(keyspace.version_key(version), "state") == b"complete":
            assert publish.matches(client, version, content())
        else:
            with pytest.raises(MissingDataError, match="is not in Redis"):
                pointer.move(client, version, DAY, who="t", why="w")
        assert pointer.read(client) == Pointer()
        assert publish.publish_version(client, content(), DAY, held=lease.take(client, DAY, "night")) == version
        assert publish.matches(client, version, content())
    assert moment > 8


@pytest.fixture
def night(tmp_path: Path, valkey: Valkey) -> Night:
    return night_of(tmp_path, DAY, redis_url=valkey.url)


@pytest.fixture
def ready(night: Night) -> str:
    """A night that only has to be promoted: its version."""
    version = publish.publish_version(keyspace.connect(night.settings), content(), DAY)
    design = Experiment("E", (Arm("C", "contextual", version), Arm("T1", "dae", version)), str(DAY))
    document(night.store, DAY, inputs(DAY))
    experiment(night, design, records(design, users=500, sessions=2000, lift={"T1": 1.5}))
    assert report.build_report(night).decision.verdict == "promote"
    return version


#: What a promotion calls, in this order, after the pointer has been read.
STEPS = [(pointer, "move"), (promote, "record"), (promote, "finish_report"), (restore, "save")]


def dying_before(_: Callable[..., Any]) -> Callable[..., Any]:
    def die(*arguments: Any, **named: Any) -> None:
        raise Killed

    return die


def dying_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def die(*arguments: Any, **named: Any) -> None:
        function(*arguments, **named)
        raise Killed

    return die


@pytest.mark.drill("promotion", "killed before or after any of its steps", "the rerun ends with one move and the same verdict")
def test_a_promotion_killed_between_its_steps_is_completed_by_a_rerun(night: Night, ready: str) -> None:
    store = night.store

    def once() -> Verdict:
        with lease.held(keyspace.connect(night.settings), DAY, "night") as held:
            return steps.promote_or_hold(night, ready, held)

    for (module, name), dying in itertools.product(STEPS, (dying_before, dying_after)):
        client: redis.Redis = keyspace.connect(night.settings)
        client.delete(keyspace.LIVE, keyspace.AUDIT)
        for gone in (f"promotions/date={DAY}", restore.COPY):
            store.remove(gone)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, dying(getattr(module, name)))
            with pytest.raises(Killed):
                once()
        assert pointer.read(client).version in ("", ready)
        verdict = once()
        assert (verdict.verdict, verdict.live) == ("promoted", ready)
        assert Verdict.read(store, DAY) == verdict
        assert Report.read(store, DAY).outcome == verdict
        assert pointer.read(client) == Pointer(ready, 1, str(DAY), "")
        assert [(entry.action, entry.to) for entry in pointer.audit(client)] == [("promote", ready)]
        assert store.read(restore.LiveCopy, restore.COPY).pointer.version == ready
        assert lease.holders(client) == {}


def test_nights_that_hold_do_not_fill_redis(night: Night, ready: str) -> None:
    client = keyspace.connect(night.settings)
    older = [publish.publish_version(client, content(shift), DAY - timedelta(days=shift)) for shift in range(1, 7)]
    with lease.held(client, DAY, "night") as held:
        assert steps.promote_or_hold(night, ready, held, wanted=False).verdict == "held"
    left = sorted(version.decode() for version in client.smembers(keyspace.VERSIONS))
    assert left == sorted([*older[:3], ready])


@pytest.mark.parametrize(("back", "verdict"), [(1, "promoted"), (-1, "held")])
def test_a_backfill_that_may_promote_does_unless_a_later_date_is_live(night: Night, ready: str, back: int, verdict: str) -> None:
    client = keyspace.connect(night.settings)
    other = publish.publish_version(client, content(1), DAY - timedelta(days=back))
    pointer.make_live(client, other, who="ann", why="the nights of these days")
    document(night.store, DAY, inputs(DAY, backfill=True))
    with lease.held(client, DAY, "backfill") as held:
        found = steps.promote_or_hold(night, ready, held, wanted=True, backfill=True)
    assert found.verdict == verdict, found.reasons
    assert pointer.read(client).version == (ready if verdict == "promoted" else other)
    if verdict == "held":
        assert f"the live version {other} is of a later log date" in found.reasons[-1]


def test_a_backfill_holds_unless_it_may_promote(night: Night, ready: str) -> None:
    client = keyspace.connect(night.settings)
    document(night.store, DAY, inputs(DAY, backfill=True))
    with lease.held(client, DAY, "backfill") as held:
        found = steps.promote_or_hold(night, ready, held, backfill=True)
    assert (found.verdict, found.reasons[-1]) == ("held", "A backfill promotes nothing unless it is asked to.")


def test_a_candidate_that_was_compared_with_what_is_no_longer_live_is_held(night: Night, ready: str) -> None:
    client = keyspace.connect(night.settings)
    other = publish.publish_version(client, content(1), DAY - timedelta(days=1))
    pointer.make_live(client, other, who="ann", why="meanwhile")
    with lease.held(client, DAY, "night") as held:
        found = steps.promote_or_hold(night, ready, held)
    assert (found.verdict, found.live) == ("held", other)
    assert f"moved to {other} after this night began" in found.reasons[-1]


@pytest.mark.parametrize(
    ("answer", "verdict", "told"),
    [
        (promote.Answer(True, "ann"), "promoted", "night, approved by ann"),
        (promote.Answer(False, "ann"), "held", "ann refused the promotion."),
        (promote.Answer(False, ""), "held", "Nobody approved the promotion in time."),
    ],
)
def test_a_person_who_is_asked_decides(night: Night, ready: str, answer: promote.Answer, verdict: str, told: str) -> None:
    client = keyspace.connect(night.settings)
    asked = steps.question(night, ready)
    assert asked is not None
    assert f"**{ready}**, made from the logs of {DAY}, would become live instead of nothing." in asked
    assert "Session time of T1 against C: +" in asked
    with lease.held(client, DAY, "night") as held:
        found = steps.promote_or_hold(night, ready, held, answer=answer)
    assert found.verdict == verdict
    assert told == (pointer.audit(client)[-1].who if verdict == "promoted" else found.reasons[-1])


def test_nobody_is_asked_about_what_would_be_held_anyway(night: Night, ready: str) -> None:
    assert steps.question(night, ready, wanted=False) is None
    pointer.make_live(keyspace.connect(night.settings), ready, who="ann", why="by hand")
    assert steps.question(night, ready) is None
