"""Nights of real listeners begin rollouts, and looks at the service's log decide them, on a real Valkey."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from recsys.abtest.headline import ROLLED_OUT, headline
from recsys.abtest.history import night_row
from recsys.abtest.schema import Report
from recsys.exceptions import InvalidInputError, MissingDataError, UnavailableError
from recsys.experiments import Arm, Experiment
from recsys.inspection.standing import standing
from recsys.night import promote, report
from recsys.night import rollout as night_rollout
from recsys.night.night import Night
from recsys.night.promote import Answer
from recsys.rollout.look import Looks
from recsys.schemas import Verdict
from recsys.storage.store import Storage
from recsys.versions import keyspace, lease, pointer, publish, restore, rollout
from tests.night.test_promotion import content
from tests.support.components import Valkey
from tests.support.documents import inputs
from tests.support.documents import publish as document
from tests.support.traffic import records, write
from tests.support.watched import live_settings, watched_night

pytestmark = pytest.mark.slow

RULE = """
stages: [{share: 20, margin: 0.2}, {share: 50, margin: 0.1}, {share: 100}]
least_hours: 1
longest_hours: 10
least_users: 50
planned_users: 200
"""


class Live:
    """A night of real listeners up to its last step, with a version that is live, and a candidate."""

    def __init__(self, root: Path, valkey: Valkey) -> None:
        (root / "rollout.yml").write_text(RULE)
        settings = live_settings(root).model_copy(
            update={"redis_url": keyspace_url(valkey), "rollout": root / "rollout.yml", "service_logs": root / "logs"}
        )
        self.night = watched_night(settings, 1.0, 2)
        self.settings, self.day, self.store = settings, self.night.log_date, self.night.store
        self.client = keyspace.connect(settings)
        before = self.day - timedelta(days=1)
        self.live = publish.publish_version(self.client, content(1), before)
        pointer.move(self.client, self.live, before, who="t", why="w")
        document(self.store, self.day, inputs(self.day, self.live))
        report.build_report(self.night)
        self.candidate = publish.publish_version(self.client, content(), self.day)

    def end(self, **more: Any) -> Verdict:
        """The night's last step."""
        held = lease.take(self.client, self.day, "night")
        return promote.promote_or_hold(self.night, self.client, self.candidate, held, **more)

    def now(self) -> rollout.Rollout:
        return rollout.read(self.client)

    def requests(self, lift: float, hours: float, sessions: int = 3000) -> None:
        """What listeners asked for up to so many hours after the stage began, the candidate's staying ``lift`` times as long."""
        now = self.now()
        arms = [Arm("candidate", "dae")] * round(now.share) + [Arm("live", "dae")] * (100 - round(now.share))
        rows = records(
            Experiment(now.experiment, tuple(arms)), users=1500, sessions=sessions, lift={"candidate": lift}, run="live"
        )
        begin = now.since.timestamp() * 1000 + 1
        step = hours * 3_600_000 / len(rows)
        moved = [{**row, "timestamp": int(begin + step * n)} for n, row in enumerate(rows)]
        write(self.settings.log_dir / "live" / f"{now.since:%Y-%m-%d}-{now.stage}.jsonl", moved)

    def look(self, hours: float) -> str:
        at = self.now().since + timedelta(hours=hours)
        found, said = night_rollout.look_and_act(self.settings, self.client, at, who="run look")
        return found.action if found else said

    def verdict(self) -> Verdict:
        return Verdict.read(self.store, self.day)


def keyspace_url(valkey: Valkey) -> Any:
    from pydantic import SecretStr

    return SecretStr(valkey.url)


@pytest.fixture
def live(tmp_path: Path, valkey: Valkey) -> Live:
    return Live(tmp_path, valkey)


@pytest.fixture
def begun(live: Live) -> Live:
    assert live.end().verdict == "rolling_out"
    return live


def test_a_candidate_that_has_passed_the_gate_goes_to_some_first(live: Live) -> None:
    assert f"would be served to 20 % of listeners instead of **{live.live}**" in (
        promote.question(live.night, live.client, live.candidate) or ""
    )
    found = live.end()
    assert (found.verdict, found.live) == ("rolling_out", live.live)
    assert found.reasons[-2:] == [ROLLED_OUT, f"{live.candidate} is served to 20 % of listeners."]
    assert pointer.read(live.client).version == live.live
    assert (
        live.end()
        == live.end()
        == found.model_copy(update={"reasons": [*found.reasons[:-1], f"{live.candidate} is being rolled out already."]})
    )
    assert live.now().generation == 1
    said = headline(Report.read(live.store, live.day))
    assert said.title.startswith("Rolling out: ")
    assert night_row(live.store, live.day).outcome.startswith("rolling out")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"backfill": True}, "A backfill promotes nothing"),
        ({"wanted": False}, "Promotion was not asked for"),
        ({"answer": Answer(approved=False, who="ann")}, "ann refused"),
    ],
)
def test_who_does_not_want_a_promotion_gets_no_rollout(live: Live, more: dict[str, Any], reason: str) -> None:
    found = live.end(**more)
    assert (found.verdict, reason in found.reasons[-1]) == ("held", True)
    assert not live.now().is_under_way


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (lambda live: pointer.hold(live.client, who="ann", why="x"), "all promotions are held"),
        (lambda live: pointer.hold(live.client, live.candidate, who="ann", why="x"), "has not been released"),
        (lambda live: rollout.begin_by_hand(live.client, other(live), 5, who="ann", why="x"), "is under way; it ends first"),
    ],
)
def test_what_stands_in_the_way_of_a_rollout_is_told(live: Live, before: Callable[[Live], object], reason: str) -> None:
    before(live)
    found = live.end()
    assert (found.verdict, reason in found.reasons[-1]) == ("held", True), found.reasons


def other(live: Live) -> str:
    return publish.publish_version(live.client, content(2), live.day - timedelta(days=2))


def test_without_a_rule_or_with_one_of_all_at_once_a_night_promotes_as_before(live: Live) -> None:
    assert not promote.rolls_out(Night(live.day, live.settings.model_copy(update={"rollout": None})), live.live)
    assert not promote.rolls_out(live.night, "")
    assert promote.rolls_out(live.night, live.live)
    assert live.settings.rollout
    live.settings.rollout.write_text("stages: [{share: 100}]")
    assert not promote.rolls_out(live.night, live.live)
    with pytest.raises(InvalidInputError, match="no stage below 100"):
        night_rollout.begin(live.settings, live.client, live.candidate, who="ann", why="x")


def test_a_good_candidate_reaches_everybody_and_its_night_says_so(begun: Live) -> None:
    begun.requests(1.0, 2)
    assert begun.look(0.5) == "stay"
    assert begun.look(2) == "advance"
    assert begun.now().share == 50
    begun.requests(1.2, 2)
    assert begun.look(2) == "advance"
    assert pointer.read(begun.client).version == begun.candidate
    found = begun.verdict()
    assert (found.verdict, found.live) == ("promoted", begun.candidate)
    assert "a loss of 10 % is excluded" in found.reasons[-1]
    assert headline(Report.read(begun.store, begun.day)).title.startswith("Promoted: live: ")
    assert [one.action for one in Looks.read(begun.store, begun.day).looks] == ["stay", "advance", "advance"]
    assert begun.look(3) == begun.now().told
    assert restore.restore(begun.client, begun.store, who="ann")


def test_a_bad_candidate_is_taken_back_at_once_and_its_night_says_why(begun: Live) -> None:
    begun.requests(0.5, 2)
    assert begun.look(0.9) == "abort"
    assert (begun.now().share, begun.now().state) == (0, "aborted")
    found = begun.verdict()
    assert (found.verdict, found.live) == ("held", begun.live)
    assert "it is worse: at best" in found.reasons[-1]
    assert begun.look(2) == begun.now().told
    assert "has not been released" in begun.end().reasons[-1]


def test_what_cannot_be_told_is_held_until_a_person_goes_on(begun: Live) -> None:
    begun.requests(1.0, 1, sessions=60)
    assert [begun.look(hours) for hours in (1, 9.9, 10, 11)] == ["stay", "stay", "hold", "stay"]
    assert (begun.now().state, begun.now().share) == ("held", 20)
    assert begun.verdict().verdict == "rolling_out"
    with pytest.raises(InvalidInputError, match="they are 20, 50, 100"):
        night_rollout.advance(begun.settings, begun.client, 25, who="ann", why="go on")
    with pytest.raises(MissingDataError, match="is not being rolled out"):
        night_rollout.advance(begun.settings, begun.client, 50, begun.live, who="ann", why="go on")
    for said in ("is served to 50 %", "or more already"):
        assert said in night_rollout.advance(begun.settings, begun.client, 50, begun.candidate, who="ann", why="go on")
    assert "is live now" in night_rollout.advance(begun.settings, begun.client, 100, who="ann", why="go on")
    assert begun.verdict().verdict == "promoted"


def test_a_backfill_of_looks_replays_and_changes_nothing(begun: Live) -> None:
    begun.requests(1.0, 4, sessions=600)
    assert begun.look(0.9) == "stay"
    kept = Looks.read(begun.store, begun.day)
    began = begun.now().since
    for at in (began - timedelta(hours=1), began, began + timedelta(hours=0.5)):
        night_rollout.look_and_act(begun.settings, begun.client, at, who="backfill")
        assert Looks.read(begun.store, begun.day) == kept
    # Later lines change nothing of what was seen; a look at the same time is the same one.
    assert begun.look(0.9) == "stay"
    assert Looks.read(begun.store, begun.day) == kept
    assert begun.now().generation == 1


@pytest.mark.drill("rollout", "a look killed before or after the share has moved", "the next one goes on from there")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("change", "action", "lift", "hours", "left"),
    [
        ("abort", "abort", 0.5, 1, ("aborted", 0)),
        ("advance", "advance", 1.0, 2, ("serving", 50)),
        ("pause", "hold", 1.0, 10, ("held", 20)),
    ],
)
def test_a_look_that_is_killed(
    begun: Live, monkeypatch: pytest.MonkeyPatch, after: bool, change: str, action: str, lift: float, hours: float, left: Any
) -> None:
    begun.requests(lift, hours, sessions=60 if action == "hold" else 3000)
    changed, at = getattr(rollout, change), begun.now().since + timedelta(hours=hours)

    def look() -> str:
        found, said = night_rollout.look_and_act(begun.settings, begun.client, at, who="run look")
        return found.action if found else said

    def killed(*arguments: Any, **named: Any) -> tuple[bool, str]:
        if after:
            changed(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rollout, change, killed)
        with pytest.raises(KeyboardInterrupt):
            look()
    assert begun.verdict().verdict == "rolling_out"
    generation = begun.now().generation
    # The same run tries again, and is tried once more: it tells the same, and the share moves once.
    assert [look(), look()] == [action, action]
    assert (begun.now().state, begun.now().share) == left
    assert begun.now().generation == (generation if after else generation + 1) == 2
    (kept,) = Looks.read(begun.store, begun.day).looks
    assert (kept.action, kept.share, kept.evidence.candidate.users > 0) == (action, 20, True)
    assert begun.verdict().verdict == ("held" if action == "abort" else "rolling_out")


@pytest.mark.drill(
    "rollout", "the storage is away as a person takes a candidate back", "the share goes to zero; a second try explains it"
)
def test_an_abort_needs_no_storage(begun: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("HDFS is away")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "stage", away)
        with pytest.raises(UnavailableError):
            night_rollout.abort(begun.settings, begun.client, None, who="ann", why="complaints")
    assert begun.now().share == 0
    assert "was taken back: complaints" in night_rollout.abort(begun.settings, begun.client, None, who="ann", why="complaints")
    assert begun.verdict().reasons[-1] == "Taken back: complaints."


@pytest.mark.drill("rollout", "the looks so far are damaged", "the next look goes on without them, as does the page")
def test_looks_that_are_damaged(begun: Live) -> None:
    begun.requests(0.5, 2)
    assert begun.look(0.1) == "stay"
    kept = Path(begun.settings.storage_url.removeprefix("file://")) / Looks.KIND.on(begun.day) / Looks.FILE
    kept.write_text("{")
    found = standing(begun.client, begun.store)
    assert (found.live.version, found.rollout.candidate, found.looks) == (begun.live, begun.candidate, ())
    assert begun.look(0.9) == "abort"
    (held,) = standing(begun.client, begun.store).held
    assert (held.version, held.who, "it is worse" in held.why) == (begun.candidate, "run look", True)
    assert [one.action for one in Looks.read(begun.store, begun.day).looks] == ["abort"]


def test_a_stage_that_began_in_the_future_is_told(begun: Live) -> None:
    later = datetime.now(UTC) + timedelta(hours=3)
    begun.client.hset(keyspace.ROLLOUT, "since", int(later.timestamp() * 1000))
    with pytest.raises(UnavailableError, match="lies in the future: the clock here or that of Redis"):
        night_rollout.look_and_act(begun.settings, begun.client, datetime.now(UTC), who="run look")
    assert "nobody gets it" in night_rollout.abort(begun.settings, begun.client, None, who="ann", why="x")


def test_two_people_and_a_look_at_once(begun: Live) -> None:
    begun.requests(1.0, 2)
    at = begun.now().since + timedelta(hours=2)

    def person(name: str) -> str:
        return night_rollout.advance(begun.settings, begun.client, 50, who=name, why="go on")

    def run(name: str) -> str:
        return night_rollout.look_and_act(begun.settings, begun.client, at, who=name)[1]

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(work, name) for work, name in ((person, "ann"), (person, "bob"), (run, "hour"))]
        said = [one.result() for one in asked]
    assert len([one for one in said if one == f"{begun.candidate} is served to 50 % of listeners"]) == 1, said
    assert (begun.now().share, begun.now().generation) == (50, 2)
    assert [entry.action for entry in pointer.audit(begun.client)][1:] == ["rollout", "advance"]
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(night_rollout.abort, begun.settings, begun.client, None, who=name, why=name) for name in ("ann", "bob")
        ]
        said = [one.result() for one in asked]
    assert len([one for one in said if "nobody gets it any more" in one]) == 1, said
    assert [entry.action for entry in pointer.audit(begun.client)][1:] == ["rollout", "advance", "abort"]
    assert begun.verdict().verdict == "held"


def test_a_candidate_that_is_gone_gets_no_next_stage_and_is_taken_back(begun: Live) -> None:
    begun.requests(1.0, 2)
    begun.client.delete(keyspace.version_key(begun.candidate))
    with pytest.raises(MissingDataError, match="publish it first"):
        begun.look(2)
    assert begun.now().share == 20
    assert "nobody gets it any more" in night_rollout.abort(begun.settings, begun.client, None, who="ann", why="it is gone")


def test_times_of_looks() -> None:
    assert night_rollout.until("2026-01-05T09:00") == datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert night_rollout.until("2026-01-05T09:00+02:00") == datetime(2026, 1, 5, 7, tzinfo=UTC)
    assert night_rollout.until(None) <= datetime.now(UTC)
    for text in ("", "yesterday", "9999-12-31T00:00", "0001-01-01T00:00+23:00"):
        with pytest.raises(InvalidInputError):
            night_rollout.until(text)


def test_a_redis_that_is_not_there_is_told(begun: Live, valkey: Valkey) -> None:
    valkey.kill()
    with pytest.raises(redis.RedisError):
        begun.look(1)
