"""Does the simulator still resemble the traffic? Sessions in the logs against sessions played now, under the same policy.

In go the logs of a date and a running service; out comes a :class:`Drift`: how far the distributions of session length and
session time are apart.
"""

import logging
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from recsys.exceptions import MissingDataError
from recsys.experiments import RunSpec
from recsys.logs.record import log_files
from recsys.night import traffic
from recsys.night.catalogue import players
from recsys.night.collect import read_sessions
from recsys.night.night import Night, night_seed
from recsys.simulate.shards import shards_of, simulate_all
from recsys.versions import keyspace
from recsys.versions.runs import open_run

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

#: Distributions this far apart (largest difference of the distribution functions) have drifted, if chance cannot explain it.
FAR = 0.03
UNLIKELY = 0.001


@dataclass(frozen=True)
class Comparison:
    """One figure of a session: means of both samples, their Kolmogorov-Smirnov distance and its p-value."""

    name: str
    logged_mean: float
    simulated_mean: float
    distance: float
    p_value: float

    @property
    def drifted(self) -> bool:
        """Whether the difference is large and not chance."""
        return self.distance > FAR and self.p_value < UNLIKELY


@dataclass(frozen=True)
class Drift:
    """The outcome of a check."""

    logged_sessions: int
    simulated_sessions: int
    comparisons: tuple[Comparison, ...]

    @property
    def drifted(self) -> bool:
        """Whether any figure has drifted."""
        return any(comparison.drifted for comparison in self.comparisons)


def compare(logged: "pa.Table", simulated: "pa.Table") -> Drift:
    """Compare two tables of sessions (columns steps and time).

    Raises:
        MissingDataError: one of them is empty.
    """
    from scipy.stats import ks_2samp

    if not logged.num_rows or not simulated.num_rows:
        raise MissingDataError(f"{logged.num_rows} logged and {simulated.num_rows} simulated sessions cannot be compared")
    found = []
    for name in ("steps", "time"):
        ours, theirs = logged[name].to_numpy(), simulated[name].to_numpy()
        test = ks_2samp(ours, theirs)
        found.append(Comparison(name, float(ours.mean()), float(theirs.mean()), float(test.statistic), float(test.pvalue)))
    return Drift(logged.num_rows, simulated.num_rows, tuple(found))


def check(night: Night, sessions: int, *, run: str) -> Drift:
    """Play sessions now, served as the logs of a date were, and compare.

    Args:
        run: names this check's tries.
    """
    settings = night.settings
    logged = read_sessions(log_files(night.store.local(night.logs)))
    spec = night.store.read(RunSpec, night.logs)
    again = replace(spec, base=f"drift-{spec.base}")
    open_run(keyspace.connect(settings), again)
    seed = night_seed(settings.seed + 2, night.log_date)
    known = {"seed": seed, "episodes": sessions, "shards": settings.shards, "batch": traffic.BATCH}
    parts = shards_of(again.base, spec.version, **known, **players(night))
    results = simulate_all(settings, parts, run)
    directories = [settings.log_dir / result.run for result in results]
    simulated = read_sessions([path for directory in directories for path in log_files(directory)])
    for directory in directories:
        shutil.rmtree(directory)
    return compare(logged, simulated)
