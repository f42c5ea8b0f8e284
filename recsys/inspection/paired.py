"""Common random numbers: the same simulated listeners under each arm of a night. For simulated traffic only.

In goes a finished night's experiment and a running service; out comes ``paired/date=D``: effects whose noise is mostly gone,
because every session is played under both arms with the same listener, interest, first track and random numbers (Law, Simulation
Modeling and Analysis, 5th ed., section 11.2).
"""

import json
import logging
import math
import shutil
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.abtest.analysis import CONFIDENCE
from recsys.abtest.sessions import read_log
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.night import steps as nightly
from recsys.schemas import Arm, Experiment, RunSpec, night_seed
from recsys.settings import Settings
from recsys.simulate.shards import simulate_all
from recsys.storage.store import Storage
from recsys.versions import keyspace, restore
from recsys.versions.runs import open_run

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
SEED_SHIFT = 3


@dataclass(frozen=True)
class PairedComparison:
    """The primary metric of one arm against another, on the same users.

    ``gain`` is how many times more sessions an unpaired comparison of independent listeners would need for an interval as short:
    the variance of its effect over that of the paired one, at an equal number of sessions; None if the
    two arms gave every user the same.
    """

    arm: str
    control: str
    users: int
    control_mean: float
    treatment_mean: float
    effect_percent: float
    ci_low_percent: float
    ci_high_percent: float
    unpaired_low_percent: float
    unpaired_high_percent: float
    correlation: float
    gain: float | None


def compare_paired(control: Floats, treatment: Floats, arm: str, control_arm: str) -> PairedComparison:
    """Compare values of the same users, float64 [users] both, in the same order.

    The interval is that of the log of the ratio of means by the delta method: its variance is
    (s_t^2 / m_t^2 + s_c^2 / m_c^2 - 2 s_ct / (m_t m_c)) / n, with n - 1 degrees of freedom.

    Raises:
        InvalidInputError: fewer than 2 users, values that are not finite, a mean that is not above 0, or no spread.
    """
    from scipy import stats

    n = len(control)
    if n < 2 or len(treatment) != n:
        raise InvalidInputError(f"{n} and {len(treatment)} users cannot be paired; both arms need the same users, at least 2")
    if not (np.isfinite(control).all() and np.isfinite(treatment).all()) or control.mean() <= 0 or treatment.mean() <= 0:
        raise InvalidInputError(f"values of {arm} and {control_arm} must be finite, with means above 0")
    means = np.array([control.mean(), treatment.mean()])
    spread = np.cov(control, treatment) / np.outer(means, means)
    unpaired = (spread[0, 0] + spread[1, 1]) / n
    paired = (spread[0, 0] + spread[1, 1] - 2 * spread[0, 1]) / n
    if spread[0, 0] == 0 or spread[1, 1] == 0:
        raise InvalidInputError(
            f"all users of {arm if spread[1, 1] == 0 else control_arm} have the same value: no spread to measure by"
        )
    ratio = float(means[1] / means[0])
    # Two arms that give every user the same value are equal without doubt; their interval is a point.
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * math.sqrt(max(0.0, paired))
    half_unpaired = float(stats.t.ppf((1 + CONFIDENCE) / 2, 2 * n - 2)) * math.sqrt(unpaired)

    def percent(log_ratio: float) -> float:
        return 100 * (ratio * math.exp(log_ratio) - 1)

    return PairedComparison(
        arm, control_arm, n, float(means[0]), float(means[1]), percent(0.0), percent(-half), percent(half),
        percent(-half_unpaired), percent(half_unpaired), float(spread[0, 1] / math.sqrt(spread[0, 0] * spread[1, 1])),
        float(unpaired / paired) if paired > 0 else None,
    )  # fmt: skip


def play_paired(settings: Settings, log_date: date, sessions: int, *, run_id: str) -> dict[str, Any]:
    """Play a night's arms again, each for all listeners, and write ``paired/date=D``; returns its content.

    Args:
        sessions: sessions of each arm. run_id: names this run's tries.

    Raises:
        MissingDataError: the night has no experiment, or a version's files are gone.
    """
    store = Storage(settings.storage_url)
    spec = RunSpec.from_json(store.read_json(f"experiments/date={log_date}", "run.json"))
    if spec.experiment is None:
        raise MissingDataError(f"experiments/date={log_date} was not an experiment; run the night again")
    client = keyspace.connect(settings)
    arms = list({arm.name: arm for arm in spec.experiment.arms}.values())
    seed = night_seed(settings.seed + SEED_SHIFT, log_date)
    means = {arm.name: _play(settings, store, client, spec, arm, sessions, seed, run_id) for arm in arms}
    control = arms[0].name
    pairs = [(arm.name, control) for arm in arms[1:]]
    pairs += [(a.name, b.name) for a, b in combinations(arms[1:], 2)]
    comparisons = [compare_paired(*_same_users(means[b], means[a]), a, b) for a, b in pairs]
    document = {
        "log_date": str(log_date), "simulation_only": True, "sessions_an_arm": sessions, "seed": seed,
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }  # fmt: skip
    with store.stage(f"paired/date={log_date}") as staging:
        (staging / "paired.json").write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False))
    return document


def _play(
    settings: Settings, store: Storage, client: Any, spec: RunSpec, arm: Arm, sessions: int, seed: int, run_id: str
) -> dict[int, float]:
    """Mean session time of every user when all are in one arm."""
    restore.publish_again(client, store, arm.version)
    everybody = Experiment(spec.experiment.name, (arm,)) if spec.experiment else None
    single = replace(spec, base=f"paired-{spec.base}-{arm.name}", seed=seed, exploration=0.0, experiment=everybody)
    open_run(client, single)
    simulate_all(settings, single.base, sessions, seed, run_id, batch=nightly.TRAFFIC_BATCH)
    directories = [settings.log_dir / f"{single.base}.{shard}.{run_id}" for shard in range(settings.shards)]
    found = read_log([d for d in directories if d.exists()], everybody.name if everybody else "")
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    log.info("arm %s: %d sessions of %d users", arm.name, found.counts["sessions"], found.counts["users"])
    means = found.users["time"] / found.users["sessions"]
    return dict(zip(found.users["user"].tolist(), means.tolist(), strict=True))


def _same_users(control: dict[int, float], treatment: dict[int, float]) -> tuple[Floats, Floats]:
    users = sorted(control.keys() & treatment.keys())
    return np.array([control[user] for user in users]), np.array([treatment[user] for user in users])
