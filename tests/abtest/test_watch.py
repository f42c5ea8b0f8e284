"""An experiment of real listeners, as it stood at every night: the same as if each night's logs had been read alone."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys.abtest.analysis import welch
from recsys.abtest.metrics import PRIMARY
from recsys.abtest.sequences import Arm, relative
from recsys.abtest.sessions import ExperimentLog, read_log
from recsys.abtest.watch import LEAST_USERS, Plan, watch
from recsys.experiments import ORIGINAL
from tests.support.traffic import records, write

pytestmark = pytest.mark.slow

FIRST = date(2026, 11, 1)
DATES = tuple(FIRST + timedelta(days=number) for number in range(5) if number != 2)  # a night without requests
PLAN = Plan(400, DATES)


def rows_of(lift: float, users: int = 300) -> dict[date, list[dict[str, object]]]:
    """Requests of each date; users return on other dates."""
    found = {}
    for number, day in enumerate(DATES):
        midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
        rows = records(ORIGINAL, users=users, sessions=250, lift={"T1": lift}, seed=number, run="live")
        found[day] = [
            {**row, "timestamp": midnight + i, "session": 10_000 * number + row["session"]} for i, row in enumerate(rows)
        ]
    return found


def log_of(directory: Path, days: dict[date, list[dict[str, object]]]) -> ExperimentLog:
    for day, rows in days.items():
        write(directory / f"{day}.jsonl", rows)
    return read_log(directory, ORIGINAL.name)


@pytest.fixture(scope="module")
def days() -> dict[date, list[dict[str, object]]]:
    return rows_of(1.6)


def test_each_night_stands_as_its_own_logs_had_it(tmp_path: Path, days: dict[date, list[dict[str, object]]]) -> None:
    found = watch(log_of(tmp_path / "all", days), "C", "T1", PLAN)
    assert [look.log_date for look in found.looks] == [str(day) for day in DATES]
    for number, look in enumerate(found.looks):
        so_far = {day: rows for day, rows in days.items() if day <= DATES[number]}
        log = log_of(tmp_path / str(number), so_far)
        alone = watch(log, "C", "T1", Plan(400, DATES[: number + 1])).looks[-1]
        assert alone.control_users == look.control_users == len(log.of_arm("C")["user"])
        assert alone.effect_percent == pytest.approx(look.effect_percent)
        assert alone.ci_low_percent == pytest.approx(look.ci_low_percent)
        plain = welch(PRIMARY, log.of_arm("C"), log.of_arm("T1"))
        assert look.effect_percent == pytest.approx(plain.effect_percent)
        assert look.once_low_percent == pytest.approx(plain.ci_low_percent, rel=0.02)  # Welch has Student's quantile
        arms = [Arm.of_values(PRIMARY.values(log.of_arm(arm))) for arm in ("C", "T1")]
        assert look.ci_high_percent == pytest.approx(100 * float(relative(*arms, planned=400).high))
        assert (look.ci_low_percent or 0.0) < (look.once_low_percent or 0.0)


def test_the_last_night_is_the_comparison(tmp_path: Path, days: dict[date, list[dict[str, object]]]) -> None:
    found = watch(log_of(tmp_path, days), "C", "T1", PLAN)
    assert found.ci_low_percent == found.looks[-1].ci_low_percent
    assert found.better
    assert (found.role, found.p_value, found.interval) == ("primary", None, "95 % interval for all nights")


def test_a_clock_that_is_wrong_moves_no_session_out_of_the_experiment(tmp_path: Path) -> None:
    days = {DATES[0]: [{**row, "timestamp": 1_000_000 + i} for i, row in enumerate(rows_of(1.0)[DATES[0]])]}
    days[DATES[1]] = [{**row, "timestamp": 9_000_000_000_000 + i} for i, row in enumerate(rows_of(1.0)[DATES[1]])]
    log = log_of(tmp_path, days)
    looks = watch(log, "C", "T1", PLAN).looks
    assert looks[0].control_users > 0
    assert looks[-1].control_users == len(log.of_arm("C")["user"])


def test_of_few_users_there_is_no_telling(tmp_path: Path) -> None:
    log = log_of(tmp_path, rows_of(3.0, users=LEAST_USERS))
    found = watch(log, "C", "T1", PLAN)
    assert (found.effect_percent, found.ci_low_percent, found.looks[-1].ci_low_percent) == (None, None, None)
    assert found.reason == "fewer than 50 users of an arm have come so far"
    nobody = watch(log, "C", "T9", PLAN)
    assert (nobody.treatment_users, nobody.reason) == (0, "the treatment arm has 0 users with this metric; at least 2 are needed")


def test_sessions_count_from_the_night_on_which_they_end(tmp_path: Path) -> None:
    days = rows_of(1.0)
    last = days[DATES[0]][-1]
    late = {**last, "timestamp": int(datetime(2026, 11, 2, tzinfo=UTC).timestamp() * 1000)}
    users = [
        watch(log_of(tmp_path / name, {DATES[0]: [*days[DATES[0]][:-1], row]}), "C", "T1", PLAN)
        for name, row in (("in time", last), ("late", late))
    ]
    seen = np.array([[look.control_users + look.treatment_users for look in found.looks] for found in users])
    assert seen[0, -1] == seen[1, -1]
    assert seen[0, 0] >= seen[1, 0]
