"""Request logs made up for the tests of the A/B report, in Nightshift's format or the original's."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from recsys.experiments import Experiment


def records(
    experiment: Experiment,
    *,
    users: int = 200,
    sessions: int = 600,
    tracks: int = 500,
    lift: dict[str, float] | None = None,
    seed: int = 0,
    run: str = "night.0.a",
) -> list[dict[str, Any]]:
    """Log records of sessions whose mean number of plays is 6 times the arm's ``lift`` (1 where it is not given)."""
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    ordinal: dict[int, int] = {}
    clock = 1_700_000_000_000
    for _ in range(sessions):
        user = int(rng.integers(users))
        arm = experiment.arm_of(user)
        session = ordinal[user] = ordinal.get(user, -1) + 1
        plays = 2 + int(rng.poisson(4 * (lift or {}).get(arm.name, 1.0)))
        listened = rng.permutation(tracks)[: plays + 1]
        for step in range(plays):
            clock += int(rng.integers(1, 5))
            final = step == plays - 1
            out.append(
                {
                    "message": "last" if final else "next",
                    "timestamp": clock,
                    "user": user,
                    "track": int(listened[step]),
                    "time": 1.0 if step == 0 else round(float(rng.random()), 2),
                    "latency": round(float(rng.exponential(0.001)), 6),
                    "recommendation": None if final else int(listened[step + 1]),
                    "experiments": {experiment.name: arm.name},
                    "run": run,
                    "version": "2026-11-23-0a1b2c3d",
                    "session": session,
                    "step": step,
                    "event": f"{session}.{step}",
                    "source": "contextual" if arm.name == "C" else "dae",
                    "degraded": False,
                    "propensity": None if final else 1.0,
                }
            )
    return out


def lean(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same records with the original's fields only."""
    kept = ("message", "timestamp", "user", "track", "time", "latency", "recommendation", "experiments")
    return [{name: row[name] for name in kept} for row in rows]


def write(path: Path, rows: list[dict[str, Any]], tail: str = "") -> Path:
    """Write the records as JSON lines, then ``tail`` as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path
