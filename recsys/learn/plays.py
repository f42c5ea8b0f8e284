"""Answered plays of a night as arrays: what was played after what, for how long, and how likely the answer was.

In goes ``interactions/date=D/plays.parquet``; out come :class:`Plays`, whose user rows are those of :class:`Interactions`.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from recsys.catalog import Catalogue
from recsys.learn.interactions import check_tracks, rows_of, users_of
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plays:
    """Plays of a window of log dates, in the order of log date, user, run, session and step.

    Attributes:
        users: number of users. artist_of: int32 [tracks]. available: bool [tracks], false for retired ones, which teach, but are
            never to be recommended.
        row: int64 [n], row of each play's user. track: int64 [n]. time: int64 [n], hundredths of the track that were heard.
        first: int64 [n], the track with which the play's session began.
        step: int64 [n], 0 for the session's first track, which nobody recommended.
        earlier: int64 [n], earlier plays of the track's artist in the session.
        repeated: bool [n], whether the track had been played in the session before.
        propensity: float64 [n], probability with which the service chose the track; NaN if it did not choose it.
        day: datetime64[D] [n], log date.
    """

    users: int
    artist_of: npt.NDArray[np.int32]
    available: npt.NDArray[np.bool_]
    row: Ints
    track: Ints
    time: Ints
    first: Ints
    step: Ints
    earlier: Ints
    repeated: npt.NDArray[np.bool_]
    propensity: npt.NDArray[np.float64]
    day: npt.NDArray[np.datetime64]

    def before(self, log_date: date) -> "Plays":
        """The plays of earlier log dates."""
        return self.chosen(self.day < np.datetime64(log_date))

    def chosen(self, mask: npt.NDArray[np.bool_]) -> "Plays":
        """The plays where ``mask`` is true; sessions are one log date's, so whole ones stay whole."""
        columns = {
            name: getattr(self, name)[mask]
            for name in ("row", "track", "time", "first", "step", "earlier", "repeated", "propensity", "day")
        }
        return Plays(self.users, self.artist_of, self.available, **columns)


def load_plays(store: Storage, log_date: date, catalogue: Catalogue) -> Plays:
    """Read the plays of a night.

    Args:
        catalogue: the log date's own.

    Raises:
        MissingDataError: not collected yet. CorruptDataError: a track is not of this catalogue, or a user has no session.
    """
    import pyarrow.parquet as pq

    name = Dated.INTERACTIONS.on(log_date)
    table = pq.read_table(store.local(name) / "plays.parquet")
    users = users_of(store, log_date)
    user, track = (table[column].to_numpy().astype(np.int64) for column in ("user", "track"))
    row = rows_of(name, users, user)
    check_tracks(name, track, catalogue)
    day = table["log_date"].to_numpy().astype("datetime64[D]")
    run = table["run"].combine_chunks().dictionary_encode().indices.to_numpy()
    parts = (row, day.astype(np.int64), run, table["session"].to_numpy())
    begins, step = _changes(parts), table["step"].to_numpy()
    answer = table["recommendation"].fill_null(-1).to_numpy()
    told = ~begins[1:] & (step[1:] == step[:-1] + 1) & (answer[:-1] == track[1:])
    propensity = np.full(len(row), np.nan)
    propensity[1:] = np.where(told, table["propensity"].to_numpy()[:-1], np.nan)
    time, of_tracks = table["hundredths"].to_numpy(), (catalogue.artist_of, catalogue.available)
    return from_columns(len(users), *of_tracks, begins, row, track, time, step, propensity, day)


def from_columns(
    users: int,
    artist_of: npt.NDArray[np.int32],
    available: npt.NDArray[np.bool_],
    begins: npt.NDArray[np.bool_],
    row: Ints,
    track: Ints,
    time: npt.NDArray[np.integer],
    step: npt.NDArray[np.integer],
    propensity: npt.NDArray[np.float64],
    day: npt.NDArray[np.datetime64],
) -> Plays:
    """Plays from columns in order; ``begins``: bool [n], whether a play is the first row of its session.

    Sessions whose own first track is not in the logs are left out: nobody knows with what they began.
    """
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, len(row)))
    whole = np.repeat(step[starts] == 0, lengths)
    session = np.repeat(np.arange(len(starts)), lengths)[whole]
    first = np.repeat(track[starts], lengths)[whole]
    track = track[whole]
    artists = int(artist_of.max()) + 1 if len(artist_of) else 1
    return Plays(
        users,
        artist_of,
        available,
        row[whole],
        track,
        time[whole].astype(np.int64),
        first,
        step[whole].astype(np.int64),
        _occurrence(session * artists + artist_of[track]),
        _occurrence(session * len(artist_of) + track) > 0,
        propensity[whole],
        day[whole],
    )


def _changes(parts: tuple[npt.NDArray[np.integer], ...]) -> npt.NDArray[np.bool_]:
    """Where any of the columns differs from the row above."""
    begins = np.zeros(len(parts[0]), dtype=bool)
    begins[:1] = True
    for column in parts:
        begins[1:] |= column[1:] != column[:-1]
    return begins


def _occurrence(key: Ints) -> Ints:
    """How often each key has occurred in the rows above."""
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(key) else np.zeros(0, np.int64)
    count = np.empty(len(key), np.int64)
    count[order] = np.arange(len(key)) - np.repeat(starts, np.diff(np.append(starts, len(key))))
    return count
