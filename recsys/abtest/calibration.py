"""Is the analysis honest on real logs? Users of one arm are split at random again and again, where no difference can be.

In go an experiment's users; out come the share of false positives, the uniformity of p-values and the coverage of planted
effects, for the very functions that the report uses. A user stays whole in every split, as in a real assignment.
"""

import logging
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from recsys.abtest.analysis import CONFIDENCE, welch
from recsys.abtest.metrics import METRICS, PRIMARY, Columns, Floats, Metric
from recsys.abtest.sessions import ExperimentLog
from recsys.abtest.wording import counted
from recsys.exceptions import InvalidInputError
from recsys.storage.document import Document, Part
from recsys.storage.store import Storage

log = logging.getLogger(__name__)

#: Counts must lie within this binomial band, p-values may be this uneven.
BAND = 0.999
UNEVEN = 0.001
LIFTS = (0.0, 0.02, 0.2, 1.0)
MIN_USERS = 40
#: Where the last calibration stands.
LAST = "calibration"


class CalibratedMetric(Part):
    """Share of splits in which a metric differed, the share allowed, and how even its p-values are (p of a uniformity test)."""

    name: str
    label: str
    false_positive_percent: float | None = None
    low_percent: float | None = None
    high_percent: float | None = None
    uniform_p: float | None = None
    ok: bool


class Coverage(Part):
    """Share of splits whose interval held a planted effect, and the share allowed."""

    effect_percent: float
    covered_percent: float | None
    low_percent: float
    high_percent: float
    ok: bool


class Calibration(Document):
    """``calibration.json``: what came of a calibration; ``source`` is where the logs are from."""

    FILE: ClassVar[str] = "calibration.json"

    experiment: str
    arm: str
    source: str
    users: int
    repetitions: int
    seed: int
    metrics: list[CalibratedMetric]
    coverage: list[Coverage]
    ok: bool


def calibrate(found: ExperimentLog, arm: str, *, repetitions: int, seed: int, source: str) -> Calibration:
    """Re-randomise the users of one arm.

    Args:
        source: where the logs are from, for people.

    Raises:
        InvalidInputError: too few users or repetitions to say anything.
    """
    users = found.of_arm(arm)
    count = len(users["user"])
    if count < MIN_USERS:
        raise InvalidInputError(
            f"arm {arm!r} has {counted(count, 'user')}; at least {MIN_USERS} are needed to split them again and again"
        )
    if repetitions < 100:
        raise InvalidInputError(f"{repetitions} repetitions say nothing; at least 100 are needed")
    rng = np.random.default_rng(seed)
    mean = float(PRIMARY.values(users).mean())
    metrics = [metric for metric in METRICS if metric.role in ("primary", "secondary")]
    p_values: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    covered = np.zeros(len(LIFTS), dtype=int)
    answered = np.zeros(len(LIFTS), dtype=int)
    for number in range(repetitions):
        treated = rng.random(count) < 0.5
        arms = [{name: column[mask] for name, column in users.items()} for mask in (~treated, treated)]
        for metric in metrics:
            p_value = welch(metric, *arms).p_value
            if p_value is not None:
                p_values[metric.name].append(p_value)
        for i, lift in enumerate(LIFTS):
            held = _held(arms[0], arms[1], mean, lift)
            covered[i] += held is True
            answered[i] += held is not None
        if (number + 1) % 500 == 0:
            log.info("%d of %d repetitions", number + 1, repetitions)
    rows = [_metric_row(metric, p_values[metric.name]) for metric in metrics]
    coverage = [_coverage_row(*row) for row in zip(LIFTS, covered.tolist(), answered.tolist(), strict=True)]
    return Calibration(
        experiment=found.experiment,
        arm=arm,
        source=source,
        users=count,
        repetitions=repetitions,
        seed=seed,
        metrics=rows,
        coverage=coverage,
        ok=all(row.ok for row in rows) and all(row.ok for row in coverage),
    )


def store_calibration(store: Storage, found: Calibration) -> None:
    """Keep a calibration as the last one, which reports show."""
    with store.stage(LAST) as staging:
        found.write(staging)


def stored_calibration(store: Storage) -> Calibration | None:
    """The last calibration, if there is one."""
    return store.read(Calibration, LAST) if store.is_complete(LAST) else None


def _held(control: Columns, treatment: Columns, mean: float, lift: float) -> bool | None:
    """Whether the interval holds an effect of ``lift`` times ``mean``, added to every session; None without an interval."""
    heard: Floats = np.asarray(treatment[PRIMARY.numerator] + lift * mean * treatment["sessions"], np.float64)
    planted = {**treatment, PRIMARY.numerator: heard}
    result = welch(PRIMARY, control, planted)
    if result.ci_low_percent is None or result.ci_high_percent is None:
        return None
    return result.ci_low_percent <= 100 * lift <= result.ci_high_percent


def _metric_row(metric: Metric, p_values: Sequence[float]) -> CalibratedMetric:
    from scipy import stats

    count = len(p_values)
    if not count:
        return CalibratedMetric(name=metric.name, label=metric.label, ok=False)
    level = 1 - CONFIDENCE
    false = sum(p < level for p in p_values)
    low, high = stats.binom.interval(BAND, count, level)
    uniform = float(stats.kstest(p_values, "uniform").pvalue)
    return CalibratedMetric(
        name=metric.name,
        label=metric.label,
        false_positive_percent=100 * false / count,
        low_percent=100 * float(low) / count,
        high_percent=100 * float(high) / count,
        uniform_p=uniform,
        ok=bool(low <= false <= high and uniform > UNEVEN),
    )


def _coverage_row(lift: float, covered: int, answered: int) -> Coverage:
    from scipy import stats

    low, high = stats.binom.interval(BAND, max(1, answered), CONFIDENCE)
    return Coverage(
        effect_percent=100 * lift,
        covered_percent=100 * covered / answered if answered else None,
        low_percent=100 * float(low) / max(1, answered),
        high_percent=100 * float(high) / max(1, answered),
        ok=bool(answered and low <= covered <= high),
    )
