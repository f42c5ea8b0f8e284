"""Recommenders that need no service: plays in, tracks out.

``DummyRecommender`` answers at random, ``ConsoleRecommender`` asks a person.
"""

import sys
from typing import TextIO

import numpy as np
import numpy.typing as npt

from recsys.catalog import Catalogue
from recsys.simulate import rng
from recsys.simulate.play import Plays
from recsys.simulate.rng import Purpose


class DummyRecommender:
    """A uniformly random track each time, the same for the same seed, episode and step."""

    def __init__(self, tracks: int, seed: int) -> None:
        self._tracks, self._seed = tracks, seed

    def next(self, plays: Plays) -> npt.NDArray[np.int64]:
        """A track for each session."""
        return rng.below(self._tracks, rng.keys(self._seed, plays.episode), plays.step, Purpose.RECOMMENDATION)

    def last(self, plays: Plays) -> None:
        """Nothing is remembered."""


class ConsoleRecommender:
    """Asks for each next track on ``screen`` and reads it from ``keyboard``; the end of input raises EOFError."""

    def __init__(self, catalogue: Catalogue, keyboard: TextIO | None = None, screen: TextIO | None = None) -> None:
        self._catalogue = catalogue
        self._keyboard, self._screen = keyboard or sys.stdin, screen or sys.stderr

    def next(self, plays: Plays) -> npt.NDArray[np.int64]:
        """Ask about one session after another."""
        users, tracks, times = plays.user.tolist(), plays.track.tolist(), plays.time.tolist()
        return np.array([self._ask(*play) for play in zip(users, tracks, times, strict=True)], np.int64)

    def last(self, plays: Plays) -> None:
        """Tell who has left."""
        for user, track, time, step in zip(plays.user, plays.track, plays.time, plays.step, strict=True):
            self._say(f"User {user} heard {time} % of {self._name(int(track))} and left after {step + 1} tracks.\n")

    def _ask(self, user: int, track: int, time: int) -> int:
        last = self._catalogue.size - 1
        self._say(f"User {user} heard {time} % of {self._name(track)}.\n")
        while True:
            self._say(f"Next track (0 to {last}): ")
            line = self._keyboard.readline()
            if not line:
                self._say("\n")
                raise EOFError
            text = line.strip()
            if text.isascii() and text.isdigit() and int(text) <= last:
                return int(text)
            self._say(f"{text!r} is no track. ")

    def _name(self, track: int) -> str:
        line = self._catalogue.track_json(track)
        return f"{track}, {line['title']} by {line['artist']}"

    def _say(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()
