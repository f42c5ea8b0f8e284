"""Small plays with something to learn: users of a group finish the group's tracks, and tire of a repeated artist."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.learn.plays import Plays, from_columns
from recsys.schemas import Inputs
from recsys.storage.store import Storage
from tests.support.night import DAY, GROUPS

ARTISTS = 60


def group_plays(
    users: int = 120, tracks: int = 300, sessions: int = 30, steps: int = 8, seed: int = 0, gamma: float = 0.5, day: date = DAY
) -> Plays:
    """Sessions that begin with a track of the user's group and go on at random; track t is of group t modulo GROUPS."""
    rng = np.random.default_rng(seed)
    artist_of, available = rng.integers(0, ARTISTS, tracks).astype(np.int32), np.ones(tracks, bool)
    row = np.repeat(np.arange(users), sessions * steps)
    step = np.tile(np.arange(steps), users * sessions)
    own = rng.integers(0, tracks // GROUPS, len(row)) * GROUPS + row % GROUPS
    track = np.where(step == 0, own, np.where(rng.random(len(row)) < 0.3, own, rng.integers(0, tracks, len(row))))
    begins = step == 0
    propensity = np.where(begins, np.nan, 1 / tracks)
    days = np.full(len(row), np.datetime64(day))
    plays = from_columns(users, artist_of, available, begins, row, track, np.zeros(len(row), int), step, propensity, days)
    taste = np.where(track % GROUPS == row % GROUPS, 0.9, 0.1)
    time = np.rint(100 * taste * gamma**plays.earlier).astype(int)
    time = np.where(begins, 100, np.where(plays.repeated, 0, time))
    return from_columns(users, artist_of, available, begins, row, track, time, step, propensity, days)


def write_plays(store: Storage, parts: list[Plays]) -> None:
    """``interactions/date=DAY`` as collect writes it, from the plays of ascending log dates."""
    tables, likes = [], []
    for plays in parts:
        count = len(plays.row)
        begins = plays.step == 0
        columns = {
            "user": plays.row,
            "run": pa.array(["traffic"] * count),
            "session": np.cumsum(begins),
            "step": plays.step.astype(np.int32),
            "track": plays.track.astype(np.int32),
            "hundredths": plays.time.astype(np.int16),
            "recommendation": pa.array(np.roll(plays.track, -1).astype(np.int32), mask=np.roll(begins, -1)),
            "propensity": pa.array(np.roll(plays.propensity, -1), mask=np.roll(begins, -1)),
            "log_date": plays.day,
        }
        tables.append(pa.table(columns))
        user, track = np.unique(np.stack([plays.row, plays.track])[:, plays.time > 80], axis=1)
        day = np.full(len(user), plays.day[0])
        columns = {
            "user": user,
            "track": track.astype(np.int32),
            "weight": np.ones(len(user), np.float32),
            "log_date": day,
        }
        likes.append(pa.table(columns))
    with store.stage(f"interactions/date={DAY}") as staging:
        pq.write_table(pa.concat_tables(tables), staging / "plays.parquet")
        pq.write_table(pa.concat_tables(likes), staging / "interactions.parquet")
        users = np.unique(np.concatenate([plays.row for plays in parts]))
        pq.write_table(pa.table({"user": users}), staging / "sessions.parquet")
        Inputs(log_date=str(DAY)).write(staging)


def two_days(tracks: int = 300, users: int = 120) -> list[Plays]:
    """Plays of the day before DAY and of DAY."""
    return [group_plays(users, tracks, sessions=12, seed=back, day=DAY - timedelta(days=1 - back)) for back in range(2)]
