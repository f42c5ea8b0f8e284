"""Listeners played in process: exploratory logs by the million, and the service's own choices without a network.

In go listeners and a policy; out come plays as arrays (for training) and session times (for tables).
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.experiments import Arm
from recsys.schemas import POSITIVE_TIME
from recsys.service.candidates import candidates
from recsys.service.choose import Choice, Stock, explore, request_hash
from recsys.service.state import Version
from recsys.simulate import rng
from recsys.simulate.listeners import Listeners
from recsys.simulate.play import Plays, Recommender
from recsys.simulate.rng import Purpose
from recsys.simulate.run import run_in_process
from recsys.storage.store import Storage

_NONE = array("I")


@dataclass(frozen=True)
class Logged:
    """Plays of one log date, in the order of episode and step; ``propensity`` is NaN for first tracks."""

    day: date
    user: np.ndarray
    track: np.ndarray
    time: np.ndarray
    session: np.ndarray
    step: np.ndarray
    propensity: np.ndarray


class Explorer:
    """An unplayed track uniformly at random."""

    def __init__(self, listeners: Listeners, seed: int) -> None:
        self._users, self._tracks, self._seed = np.sort(listeners.users), listeners.catalogue.size, seed
        self._heard = np.full((len(self._users), 16), -1, np.int64)

    def next(self, plays: Plays) -> np.ndarray:
        """A track for each session; a draw that was played already is drawn again."""
        row = np.searchsorted(self._users, plays.user)
        longest = int(plays.step.max()) + 1
        if longest > self._heard.shape[1]:
            self._heard = np.concatenate([self._heard, np.full_like(self._heard, -1)], axis=1)
        self._heard[row[plays.step == 0]] = -1
        self._heard[row, plays.step] = plays.track
        keys = rng.keys(self._seed, plays.episode)
        answer = rng.below(self._tracks, keys, plays.step, Purpose.RECOMMENDATION)
        again = np.arange(len(row))
        for redraw in range(1, 100):
            again = again[(self._heard[row[again], :longest] == answer[again, None]).any(axis=1)]
            if not len(again):
                break
            answer[again] = rng.below(
                self._tracks, rng.keys(self._seed + redraw, plays.episode[again]), plays.step[again], Purpose.RECOMMENDATION
            )
        self.propensity = 1.0 / np.maximum(1, self._tracks - plays.step - 1)
        return answer

    def last(self, plays: Plays) -> None:
        """Nothing is remembered."""


class Served:
    """What the service answers, choice by choice through its own code.

    Args:
        arm: the arm that all listeners are in. lists: each user's packed list, or an empty dictionary.
    """

    def __init__(
        self,
        listeners: Listeners,
        arm: Arm | None,
        version: Version,
        lists: dict[int, array],
        seed: int,
        exploration: float = 0.0,
    ) -> None:
        self._stock, self._arm, self._version, self._lists = Stock.of(listeners.catalogue.size), arm, version, lists
        self._seed, self._exploration = seed, exploration
        self._plays: dict[int, list[int]] = {}
        self._session: dict[int, int] = {}
        self.propensity = np.zeros(0)

    def next(self, plays: Plays) -> np.ndarray:
        """A track for each session, one after another."""
        columns = (plays.user.tolist(), plays.track.tolist(), plays.time.tolist(), plays.step.tolist())
        choices = [self._next(*play) for play in zip(*columns, strict=True)]
        self.propensity = np.array([choice.propensity for choice in choices])
        return np.array([choice.track for choice in choices])

    def _next(self, user: int, track: int, time: int, step: int) -> Choice:
        heard = self._plays.setdefault(user, [])
        if step == 0:
            heard.clear()
            self._session[user] = self._session.get(user, -1) + 1
        heard += (track, time * 100)
        played = set(heard[::2])
        draw = request_hash(self._seed, user, self._session[user], step, track)
        greedy = candidates(self._arm, self._version, self._lists.get(user, _NONE), heard, played, self._stock)
        return explore(greedy, self._exploration, self._stock, played, draw)

    def last(self, plays: Plays) -> None:
        """The next play of these users starts a new session."""


class Recorder:
    """Passes on what another recommender answers, and keeps every play."""

    def __init__(self, behind: Explorer | Served) -> None:
        self._behind = behind
        self._parts: list[Plays] = []
        self._answers: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def next(self, plays: Plays) -> np.ndarray:
        """The answer, noted."""
        answer = self._behind.next(plays)
        self._parts.append(plays)
        self._answers.append((plays.episode, plays.step + 1, self._behind.propensity))
        return answer

    def last(self, plays: Plays) -> None:
        """The last play, noted."""
        self._behind.last(plays)
        self._parts.append(plays)

    def logged(self, day: date) -> Logged:
        """Everything so far, in order."""
        user, track, time, episode, step = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((step, episode))
        propensity = np.full(len(order), np.nan)
        answered, at, chance = (np.concatenate(column) for column in zip(*self._answers, strict=True))
        propensity[step[order] > 0] = chance[np.lexsort((at, answered))]
        return Logged(day, user[order], track[order], time[order], episode[order], step[order], propensity)


def record(listeners: Listeners, behind: Explorer | Served, sessions: int, seed: int, days: Sequence[date]) -> list[Logged]:
    """Play sessions, as many on each day."""
    found = []
    for number, day in enumerate(days):
        recorder = Recorder(behind)
        share = sessions * (number + 1) // len(days) - sessions * number // len(days)
        first = sessions * number // len(days)
        run_in_process(listeners, recorder, episodes=share, seed=seed, first_episode=first, progress=False)
        found.append(recorder.logged(day))
    return found


def session_times(listeners: Listeners, recommender: Recommender, sessions: int, seed: int) -> tuple[float, float, float]:
    """Mean session time, the half width of its 95 % interval, and mean steps."""
    result = run_in_process(listeners, recommender, episodes=sessions, seed=seed, progress=False)
    return result.mean_time, 1.96 * result.se_time, result.mean_steps


def publish_interactions(store: Storage, log_date: date, logged: Sequence[Logged]) -> None:
    """``interactions/date=D`` as collect writes it, from plays in memory."""
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
    with store.stage(f"interactions/date={log_date}") as staging:
        pq.write_table(pa.concat_tables(plays), staging / "plays.parquet", compression="zstd")
        pq.write_table(pa.concat_tables(likes), staging / "interactions.parquet", compression="zstd")
        users = np.unique(np.concatenate([part.user for part in logged])).astype(np.int64)
        pq.write_table(pa.table({"user": users}), staging / "sessions.parquet")
