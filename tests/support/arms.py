"""Users of an arm, as columns."""

import numpy as np


def users(values: np.ndarray, sessions: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Columns of users whose mean session time is ``values``."""
    count = np.ones(len(values)) if sessions is None else sessions
    return {
        "user": np.arange(len(values)),
        "sessions": count,
        "steps": 3 * count,
        "time": values * count,
        "finished": count,
        "requests": 2 * count,
        "latency_ms": 2 * count,
    }


def heavy_tailed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Session times as listeners leave them: positive, skewed, a standard deviation about as large as the mean."""
    return rng.lognormal(1.0, 0.8, n)
