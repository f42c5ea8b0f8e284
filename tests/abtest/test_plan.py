"""How large an experiment must be: what is planned is found as often as promised, and arrivals are those of the logs."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys.abtest.plan import arrivals, nights_needed, plan, stored_visits, users_needed
from recsys.abtest.sequences import Arm, relative
from recsys.abtest.sessions import read_visits
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import ORIGINAL
from recsys.experiments import Arm as ExperimentArm
from recsys.storage.store import Storage
from tests.support.traffic import records, write

DAY = date(2026, 11, 1)


@pytest.mark.parametrize("nightly", [False, True])
def test_the_planned_users_find_the_effect_as_often_as_promised(nightly: bool) -> None:
    users = users_needed(1.0, 0.1, nightly=nightly) // 2
    rng = np.random.default_rng(3)
    control, treatment = (rng.exponential(mean, (1000, users)) for mean in (1.0, 1.1))
    sums = [Arm.of_sums(users, arm.sum(axis=1), (arm**2).sum(axis=1)) for arm in (control, treatment)]
    found = relative(*sums, planned=2 * users if nightly else None)
    assert 0.75 < (found.low > 0).mean() < 0.85


def test_an_unequal_split_needs_more_users() -> None:
    assert users_needed(1.0, 0.05, nightly=True, share=0.1) > 2 * users_needed(1.0, 0.05, nightly=True)


def test_users_arrive_as_they_did(tmp_path: Path) -> None:
    store, seen = Storage(f"file://{tmp_path}/storage"), []
    for number in range(3):
        rows = records(ORIGINAL, users=60, sessions=40, seed=number, run=f"day{number}.0.a")
        with store.stage(f"logs/date={DAY + timedelta(days=number)}") as staging:
            write(staging / "a.jsonl", rows)
        seen.append({row["user"] for row in rows})
    times, first = arrivals(stored_visits(store, None, 28))
    assert np.bincount(first).tolist() == [len(seen[0]), len(seen[1] - seen[0]), len(seen[2] - seen[1] - seen[0])]
    assert len(times) == len(seen[0] | seen[1] | seen[2])
    assert arrivals(stored_visits(store, DAY, 28))[1].max() == 0
    alone = read_visits(tmp_path / "storage" / "logs")
    assert alone["sessions"].sum() == 120
    assert len(set(alone["day"].tolist())) == 1, "made-up records have one clock"
    with pytest.raises(MissingDataError, match="up to 2026-10-01"):
        stored_visits(store, date(2026, 10, 1), 7)


def test_the_design_decides_who_counts() -> None:
    rng = np.random.default_rng(1)
    times, first = rng.exponential(3.0, 900), np.repeat(np.arange(9), 100)
    equal = plan(times, first, 0.1)
    assert (equal.control, equal.treatment, equal.users, equal.nights) == ("C", "T1", 900, 9)
    assert equal.once.users < equal.nightly.users
    assert equal.nightly.nights == nights_needed([100] * 9, equal.nightly.users)
    three = replace(ORIGINAL, arms=(*ORIGINAL.arms, ExperimentArm("T2", "session")))
    shared = plan(times, first, 0.1, design=three)
    assert shared.nightly.users == equal.nightly.users
    assert (shared.nightly.nights or 0) > (equal.nightly.nights or 0)
    odd = replace(ORIGINAL, arms=(ExperimentArm("A", "dae"), ExperimentArm("B", "contextual")))
    assert (plan(times, first, 0.1, design=odd).control, plan(times, first, 0.1, design=odd).treatment) == ("A", "B")


@pytest.mark.parametrize("effect", [0.0, -1.0, float("nan"), float("inf"), 1e-300, 1e300])
def test_effects_that_cannot_be_planned_for_are_named(effect: float) -> None:
    with pytest.raises(InvalidInputError, match="must lie above -100 %"):
        users_needed(1.0, effect, nightly=True)


def test_what_tells_nothing_is_named() -> None:
    with pytest.raises(InvalidInputError, match="of 3 users"):
        plan(np.ones(3), np.zeros(3, np.int64), 0.1)
    with pytest.raises(InvalidInputError, match="same session time"):
        plan(np.ones(50), np.zeros(50, np.int64), 0.1)
    with pytest.raises(InvalidInputError, match="power"):
        users_needed(1.0, 0.1, nightly=True, power=1.0)
    assert nights_needed([10, 0, 0, 0], 11) is None
