"""Common random numbers: the same simulated listeners under each arm of a night. For simulated traffic only.

In goes a finished night's experiment and a running service; out comes ``paired/date=D``: effects whose noise is mostly gone,
because every session is played under both arms with the same listener, interest, first track and random numbers (Law, Simulation
Modeling and Analysis, 5th ed., section 11.2).
"""

import logging
import math
import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from recsys.abtest.analysis import CONFIDENCE
from recsys.abtest.schema import Paired, PairedComparison
from recsys.abtest.sessions import read_log
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import Experiment, RunSpec
from recsys.night import traffic
from recsys.night.catalogue import players
from recsys.night.night import Night, night_seed
from recsys.simulate.shards import shards_of, simulate_all
from recsys.versions import keyspace, restore
from recsys.versions.runs import open_run

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
SEED_SHIFT = 3


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
        arm=arm,
        control=control_arm,
        users=n,
        control_mean=float(means[0]),
        treatment_mean=float(means[1]),
        effect_percent=percent(0.0),
        ci_low_percent=percent(-half),
        ci_high_percent=percent(half),
        unpaired_low_percent=percent(-half_unpaired),
        unpaired_high_percent=percent(half_unpaired),
        correlation=float(spread[0, 1] / math.sqrt(spread[0, 0] * spread[1, 1])),
        gain=float(unpaired / paired) if paired > 0 else None,
    )


def play_paired(night: Night, sessions: int, *, run: str) -> Paired:
    """Play a night's arms again, each for all listeners, and write ``paired/date=D``.

    Args:
        sessions: sessions of each arm. run: names this run's tries.

    Raises:
        MissingDataError: the night has no experiment, or a version's files are gone.
    """
    store = night.store
    spec = store.read(RunSpec, night.experiment)
    if spec.experiment is None:
        raise MissingDataError(f"{night.experiment} was not an experiment; run the night again")
    client = keyspace.connect(night.settings)
    arms = list({arm.name: arm for arm in spec.experiment.arms}.values())
    seed = night_seed(night.settings.seed + SEED_SHIFT, night.log_date)
    means = {}
    for arm in arms:
        restore.bring_back(client, store, arm.version)
        experiment = Experiment(spec.experiment.name, (arm,))
        single = replace(spec, base=f"paired-{spec.base}-{arm.name}", seed=seed, exploration=0.0, experiment=experiment)
        open_run(client, single)
        means[arm.name] = _play(night, single, experiment.name, sessions, run)
    control = arms[0].name
    pairs = [(arm.name, control) for arm in arms[1:]]
    pairs += [(a.name, b.name) for a, b in combinations(arms[1:], 2)]
    comparisons = [compare_paired(*_same_users(means[b], means[a]), a, b) for a, b in pairs]
    paired = Paired(log_date=str(night.log_date), sessions_an_arm=sessions, seed=seed, comparisons=comparisons)
    with store.stage(Paired.KIND.on(night.log_date)) as staging:
        paired.write(staging)
    return paired


def _play(night: Night, spec: RunSpec, experiment: str, sessions: int, run: str) -> dict[int, float]:
    """Mean session time of every user when all are in one arm."""
    settings = night.settings
    known = {"seed": spec.seed, "episodes": sessions, "shards": settings.shards, "batch": traffic.BATCH}
    parts = shards_of(spec.base, spec.version, **known, **players(night))
    results = simulate_all(settings, parts, run)
    directories = [settings.log_dir / result.run for result in results]
    found = read_log([directory for directory in directories if directory.exists()], experiment)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    log.info("%s: %d sessions of %d users", spec.base, found.counts["sessions"], found.counts["users"])
    means = found.users["time"] / found.users["sessions"]
    return dict(zip(found.users["user"].tolist(), means.tolist(), strict=True))


def _same_users(control: dict[int, float], treatment: dict[int, float]) -> tuple[Floats, Floats]:
    users = sorted(control.keys() & treatment.keys())
    return np.array([control[user] for user in users]), np.array([treatment[user] for user in users])
