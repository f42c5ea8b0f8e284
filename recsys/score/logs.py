"""Plays in memory become ``interactions/date=D``, as collection writes it of logs."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from recsys.schemas import POSITIVE_TIME
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

if TYPE_CHECKING:
    from recsys.simulate.recording import Logged


def publish_interactions(store: Storage, log_date: date, logged: "Sequence[Logged]") -> None:
    """Write the interactions of a log date, of plays up to it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plays, likes = [], []
    for part in sorted(logged, key=lambda part: part.day):
        order = np.lexsort((part.step, part.session, part.user))
        begins = part.step[order] == 0
        # What a play was answered stands with it, not with the play that followed.
        answered = np.append(~begins[1:], False)
        track, chance = np.roll(part.track[order], -1), np.roll(part.propensity[order], -1)
        columns = {
            "user": part.user[order].astype(np.int64),
            "run": pa.array([f"traffic-{part.day}"] * len(order)),
            "session": part.session[order],
            "step": part.step[order].astype(np.int32),
            "track": part.track[order].astype(np.int32),
            "hundredths": part.time[order].astype(np.int16),
            "recommendation": pa.array(track.astype(np.int32), mask=~answered),
            "propensity": pa.array(chance, mask=~answered),
            "log_date": np.full(len(order), np.datetime64(part.day)),
        }
        plays.append(pa.table(columns))
        liked = np.unique(np.stack([part.user, part.track])[:, part.time > 100 * POSITIVE_TIME], axis=1)
        count = liked.shape[1]
        columns = {
            "user": liked[0].astype(np.int64),
            "track": liked[1].astype(np.int32),
            "weight": np.ones(count, np.float32),
            "log_date": np.full(count, np.datetime64(part.day)),
        }
        likes.append(pa.table(columns))
    with store.stage(Dated.INTERACTIONS.on(log_date)) as staging:
        pq.write_table(pa.concat_tables(plays), staging / "plays.parquet", compression="zstd")
        pq.write_table(pa.concat_tables(likes), staging / "interactions.parquet", compression="zstd")
        users = np.unique(np.concatenate([part.user for part in logged])).astype(np.int64)
        pq.write_table(pa.table({"user": users}), staging / "sessions.parquet")
