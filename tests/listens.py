"""Small plays with something to learn: users of a group finish the group's tracks, and tire of a repeated artist."""

from datetime import date

import numpy as np

from recsys.plays import Plays, from_columns
from tests.night import DAY, GROUPS

ARTISTS = 60


def group_plays(
    users: int = 120, tracks: int = 300, sessions: int = 30, steps: int = 8, seed: int = 0, gamma: float = 0.5, day: date = DAY
) -> Plays:
    """Sessions that begin with a track of the user's group and go on at random; track t is of group t modulo GROUPS."""
    rng = np.random.default_rng(seed)
    artist_of = rng.integers(0, ARTISTS, tracks).astype(np.int32)
    row = np.repeat(np.arange(users), sessions * steps)
    step = np.tile(np.arange(steps), users * sessions)
    own = rng.integers(0, tracks // GROUPS, len(row)) * GROUPS + row % GROUPS
    track = np.where(step == 0, own, np.where(rng.random(len(row)) < 0.3, own, rng.integers(0, tracks, len(row))))
    begins = step == 0
    propensity = np.where(begins, np.nan, 1 / tracks)
    days = np.full(len(row), np.datetime64(day))
    plays = from_columns(users, artist_of, begins, row, track, np.zeros(len(row), int), step, propensity, days)
    taste = np.where(track % GROUPS == row % GROUPS, 0.9, 0.1)
    time = np.rint(100 * taste * gamma**plays.earlier).astype(int)
    time = np.where(begins, 100, np.where(plays.repeated, 0, time))
    return from_columns(users, artist_of, begins, row, track, time, step, propensity, days)
