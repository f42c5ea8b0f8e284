"""Tracks that are heard to the end in the same sessions, against counts by hand."""

from dataclasses import replace

import numpy as np

from recsys.learn.plays import Plays, from_columns
from recsys.models.same_session import PRIOR, table
from tests.support.listens import group_plays
from tests.support.night import GROUPS


def plays_of(sessions: list[list[tuple[int, int]]], tracks: int) -> Plays:
    """Plays (track, hundredths) of sessions of one user."""
    rows = [(step == 0, track, time, step) for session in sessions for step, (track, time) in enumerate(session)]
    begins, track, time, step = (np.array(column) for column in zip(*rows, strict=True))
    artists, available, n = np.zeros(tracks, np.int32), np.ones(tracks, bool), len(rows)
    return from_columns(
        1, artists, available, begins, np.zeros(n, np.int64), track, time, step, np.full(n, 0.5), np.zeros(n, "datetime64[D]")
    )


def test_the_share_of_plays_that_went_on_for_long_is_drawn_towards_the_usual() -> None:
    plays = plays_of(
        [
            [(0, 100), (1, 90), (2, 90)],
            [(0, 100), (2, 90), (3, 10)],
            [(0, 100), (2, 90), (1, 20)],
            [(0, 100), (3, 20), (0, 0)],
            [(4, 100), (1, 10), (3, 90)],
        ],
        tracks=30,
    )
    rows = table(plays)
    assert (rows.dtype, rows.shape) == (np.uint32, (30, 20))
    # Answers that are no repeats: 3 of 3 plays of track 2 went on, 1 of 3 of track 1, 1 of 3 of track 3, 5 of 9 in all.
    usual = {1: (1 + PRIOR * 5 / 9) / (3 + PRIOR), 2: (3 + PRIOR * 5 / 9) / (3 + PRIOR)}
    share = {1: (1 + PRIOR * usual[1]) / (2 + PRIOR), 2: (3 + PRIOR * usual[2]) / (3 + PRIOR)}
    assert share[2] > share[1] > usual[1]
    assert rows[0].tolist() == [2, 1] + [0] * 18
    assert rows[4].tolist() == [3] + [4] * 19
    assert rows[3].tolist() == [4] + [3] * 19
    assert rows[29].tolist() == [29] * 20, "nobody has played it"


def test_neighbours_are_of_the_sessions_taste_and_available() -> None:
    plays = group_plays(users=200, sessions=20)
    available = plays.available.copy()
    available[:50] = False
    rows = table(replace(plays, available=available))
    there = rows != np.arange(len(rows))[:, None]
    assert rows[there].min() >= 50
    assert there.sum(axis=1).mean() > 15
    assert (rows % GROUPS == np.arange(len(rows))[:, None] % GROUPS)[there].mean() > 0.95
    np.testing.assert_array_equal(rows, table(replace(plays, available=available)))


def test_without_sessions_there_are_only_the_tracks_themselves() -> None:
    nothing = group_plays(users=2, tracks=30, sessions=1).chosen(np.zeros(16, bool))
    assert table(nothing).tolist() == [[track] * 20 for track in range(30)]
