"""A small night's inputs, made without a service: a world without embeddings, and interactions with a taste to learn."""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.catalog import Catalogue
from recsys.schemas import Inputs
from recsys.storage.store import Storage

DAY = date(2026, 1, 5)
TRACKS, USERS, GROUPS = 400, 200, 10


def write_world(directory: Path, tracks: int = TRACKS, users: int = USERS) -> Path:
    """Names and ids only: nothing that the simulator knows is there to be read."""
    directory.mkdir(parents=True)
    rows = ({"artist": f"a{t % 40}", "title": f"t{t}", "track": t} for t in range(tracks))
    (directory / "tracks.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "users.json").write_text("".join(json.dumps({"user": u}) + "\n" for u in range(users)))
    return directory


def tastes(seed: int = 0, per_day: int = 6, days: int = 3) -> list[tuple[int, int, date]]:
    """Positives (user, track, log date) over days ending with DAY: user u likes tracks that equal u modulo GROUPS."""
    rng = np.random.default_rng(seed)
    found = set()
    for back in range(days):
        for user in range(USERS):
            tracks = rng.integers(0, TRACKS // GROUPS, per_day) * GROUPS + user % GROUPS
            found |= {(user, int(track), DAY - timedelta(days=back)) for track in tracks}
    return sorted(found)


def catalogue_of(tracks: int, retired: Sequence[int] = ()) -> Catalogue:
    """A catalogue of so many tracks, the artist of track t is t modulo 40."""
    available = np.ones(tracks, bool)
    available[list(retired)] = False
    names = [f"a{t}" for t in range(min(40, tracks))]
    return Catalogue(np.arange(tracks, dtype=np.int32) % 40, names, [f"t{t}" for t in range(tracks)], [None] * tracks, available)


def write_interactions(
    store: Storage,
    positives: list[tuple[int, int, date]],
    weight: float = 1.0,
    live: str = "",
    users: Sequence[int] = range(USERS),
) -> None:
    """``interactions/date=DAY`` as collect writes it; ``users`` have been seen, whether they liked anything or not."""
    table = pa.table(
        {
            "user": pa.array([p[0] for p in positives], pa.int64()),
            "track": pa.array([p[1] for p in positives], pa.int32()),
            "weight": pa.array([weight] * len(positives), pa.float32()),
            "log_date": pa.array([p[2] for p in positives], pa.date32()),
        }
    )
    with store.stage(f"interactions/date={DAY}") as staging:
        pq.write_table(table, staging / "interactions.parquet")
        seen = pa.table({"user": pa.array(users, pa.int64()), "time": pa.array([1.0] * len(users))})
        pq.write_table(seen, staging / "sessions.parquet")
        Inputs(log_date=str(DAY), live=live).write(staging)
