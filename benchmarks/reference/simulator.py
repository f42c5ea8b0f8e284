"""The original's simulator: one session at a time, every step in plain Python, one HTTP request an event.

In goes a world directory; :func:`play` plays episodes against a recommender and yields each session's time and steps.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import requests

NEIGHBOURS, BIAS, SHARPNESS, BUDGET, GAMMA = 10, 5.0, 1.0, 5, 0.9
PROBES = 4


class Recommender(Protocol):
    """What answers a listener."""

    def recommend(self, user: int, track: int, time: float) -> int:
        """The next track."""

    def last(self, user: int, track: int, time: float) -> None:
        """The session ends."""


class RemoteRecommender:
    """The service behind ``url``."""

    def __init__(self, url: str) -> None:
        self._url, self._session = url, requests.Session()

    def recommend(self, user: int, track: int, time: float) -> int:
        """See :class:`Recommender`."""
        answer = self._session.post(f"{self._url}/next/{user}", json={"track": int(track), "time": float(time)})
        answer.raise_for_status()
        return answer.json()["track"]

    def last(self, user: int, track: int, time: float) -> None:
        """See :class:`Recommender`."""
        self._session.post(f"{self._url}/last/{user}", json={"track": int(track), "time": float(time)}).raise_for_status()


class DummyRecommender:
    """Any track, uniformly."""

    def __init__(self, tracks: int) -> None:
        self._tracks = tracks

    def recommend(self, user: int, track: int, time: float) -> int:  # noqa: ARG002
        """See :class:`Recommender`."""
        return int(np.random.randint(self._tracks))

    def last(self, user: int, track: int, time: float) -> None:
        """See :class:`Recommender`."""


@dataclass
class Playback:
    """A track that was played, for which share of it, and whose it is."""

    track: int
    time: float
    artist: str


@dataclass
class Session:
    """A session under way."""

    embedding: np.ndarray
    budget: int
    playbacks: list[Playback] = field(default_factory=list)

    def artist_counts(self) -> Counter[str]:
        return Counter(playback.artist for playback in self.playbacks)

    def __contains__(self, track: int) -> bool:
        return any(playback.track == track for playback in self.playbacks)


@dataclass
class TrackRow:
    """A line of tracks.json."""

    track: int
    artist: str
    title: str


class TrackCatalog:
    """Tracks and embeddings, with an inverted-file index of the embeddings (the original used an index library)."""

    def __init__(self, world: Path) -> None:
        with (world / "tracks.json").open() as file:
            self.tracks = [TrackRow(**{k: row[k] for k in ("track", "artist", "title")}) for row in map(json.loads, file)]
        self.embeddings = np.load(world / "tracks.npy")
        cells = max(1, round(len(self.tracks) ** 0.5))
        rng = np.random.default_rng(0)
        self._centres = self.embeddings[rng.choice(len(self.tracks), cells, replace=False)]
        nearest = np.argmax(self.embeddings @ self._centres.T - (self._centres**2).sum(1) / 2, axis=1)
        self._cells = [np.flatnonzero(nearest == cell) for cell in range(cells)]

    def nearest(self, embedding: np.ndarray, count: int) -> np.ndarray:
        """About the ``count`` tracks with the largest inner products."""
        probed = np.argsort(-(self._centres @ embedding))[:PROBES]
        candidates = np.concatenate([self._cells[cell] for cell in probed])
        return candidates[np.argsort(-(self.embeddings[candidates] @ embedding))[:count]]


class User:
    """A listener."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.user: int = row["user"]
        self.interests: list[int] = row["interests"]
        self.neighbours = row.get("interest_neighbours", NEIGHBOURS)
        self.bias = row.get("consume_bias", BIAS)
        self.sharpness = row.get("consume_sharpness", SHARPNESS)
        self.budget = row.get("session_budget", BUDGET)
        self.gamma = row.get("artist_discount_gamma", GAMMA)

    def new_session(self, catalog: TrackCatalog) -> Session:
        embedding = catalog.embeddings[np.random.choice(self.interests)]
        first = int(np.random.choice(catalog.nearest(embedding, self.neighbours)))
        return Session(embedding, self.budget, [Playback(first, 1.0, catalog.tracks[first].artist)])

    def consume(self, track: int, session: Session, catalog: TrackCatalog) -> float:
        """Play a track; the time that the listener stays with it."""
        artist = catalog.tracks[track].artist
        time = 0.0
        if track not in session:
            score = np.dot(catalog.embeddings[track], session.embedding)
            taste = 1 / (1 + np.exp(-(score - self.bias) * self.sharpness))
            time = np.around(taste * np.power(self.gamma, session.artist_counts()[artist]), decimals=2)
        session.playbacks.append(Playback(track, time, artist))
        if np.random.random() > time:
            session.budget -= 1
        return time


class World:
    """Listeners and tracks, seeded."""

    def __init__(self, world: Path, seed: int) -> None:
        self.catalog = TrackCatalog(world)
        with (world / "users.json").open() as file:
            self.users = [User(json.loads(line)) for line in file]
        np.random.seed(seed)

    def sample_user(self) -> User:
        return np.random.choice(self.users)


def play(world: World, recommender: Recommender) -> Iterator[tuple[float, int]]:
    """Play episodes one after another, without end; (time, steps) of each session, its first track included."""
    while True:
        user = world.sample_user()
        session = user.new_session(world.catalog)
        playback = session.playbacks[0]
        track, time = playback.track, playback.time
        while session.budget > 0:
            track = recommender.recommend(user.user, track, time)
            time = user.consume(track, session, world.catalog)
        recommender.last(user.user, track, time)
        yield float(sum(p.time for p in session.playbacks)), len(session.playbacks)
