"""A million log rows: seeded sessions as both sides would have logged them, the same plays in each side's own format."""

import json
import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np
import orjson

from benchmarks.content import SEED
from benchmarks.measure import Bench
from recsys.experiments import EXPERIMENT, Arm, Experiment, RunSpec
from recsys.logs.record import ORIGINAL_FIELDS

log = logging.getLogger(__name__)

USERS, TRACKS = 10_000, 50_000
MEAN_STEPS = 8.3
START_MS = 1_767_400_000_000
DESIGN = Experiment(EXPERIMENT, (Arm("C", "contextual", "bench"), Arm("T1", "dae", "bench")))


def log_rows(bench: Bench, rows: int) -> Path:
    """A directory with ``ours/*.jsonl`` and ``ours/run.json``, and ``original.json``; kept for later runs."""
    final = bench.cache / f"rows-{rows}"
    if final.is_dir():
        return final
    partial = Path(tempfile.mkdtemp(prefix=".rows-", dir=bench.cache))
    try:
        (partial / "ours").mkdir()
        spec = RunSpec("bench", "bench", 0.0, SEED, DESIGN, TRACKS)
        spec.write(partial / "ours")
        _write(partial, rows)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _write(directory: Path, rows: int) -> None:
    """Sessions of one user follow one another; those of different users interleave, as in a real log."""
    rng = np.random.default_rng(SEED)
    lengths = 2 + rng.geometric(1 / (MEAN_STEPS - 1), int(2 * rows / MEAN_STEPS))
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), rows))]
    users = rng.integers(0, USERS, len(lengths))
    session = np.repeat(np.arange(len(lengths)), lengths)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    step = np.arange(len(session)) - first
    # A listener's sessions do not overlap: each has a stretch of time of its own, whose order is the order of sessions.
    stamp = START_MS + session * 20 + step * 1500 + (_ordinals(users)[session] * 600_000)
    track = rng.integers(0, TRACKS, len(session) + 1)
    time = np.where(step == 0, 100, np.minimum(rng.gamma(0.35, 70.0, len(session)).astype(int), 100)) / 100
    latency = rng.lognormal(-8.4, 0.4, len(session)).round(6)
    arms = np.array([DESIGN.arm_of(user).name for user in range(USERS)])
    order = np.argsort(stamp, kind="stable")
    ordinal = _ordinals(users)
    with (directory / "ours" / "0-bench.jsonl").open("wb") as ours, (directory / "original.json").open("w") as original:
        for i in order.tolist():
            s, k = int(session[i]), int(step[i])
            user, last = int(users[s]), k == lengths[s] - 1
            arm = str(arms[user])
            record = {
                "message": "last" if last else "next",
                "timestamp": int(stamp[i]),
                "user": user,
                "track": int(track[i]),
                "time": float(time[i]),
                "latency": float(latency[i]),
                "recommendation": None if last else int(track[i + 1]),
                "experiments": {EXPERIMENT: arm},
                "run": "bench.0.a",
                "version": "bench",
                "session": int(ordinal[s]),
                "step": k,
                "event": f"{s}.{k}",
                "source": None if last else ("contextual" if arm == "C" else "dae"),
                "degraded": False,
                "propensity": None if last else 1.0,
            }
            ours.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            original.write(json.dumps({name: record[name] for name in ORIGINAL_FIELDS}) + "\n")


def _ordinals(users: np.ndarray) -> np.ndarray:
    """Of each session, how many the same user had before."""
    seen = np.zeros(USERS, np.int64)
    ordinals = np.empty(len(users), np.int64)
    for i, user in enumerate(users.tolist()):
        ordinals[i] = seen[user]
        seen[user] += 1
    return ordinals
