"""Versions for rollouts in a small world: one knows what each listener likes best, the other knows it of every third track."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import redis

from recsys.versions import keyspace, publish
from recsys.versions.content import Content

LIVE, NEXT = date(2026, 1, 2), date(2026, 1, 3)


def publish_two(client: redis.Redis, world: Path, *, better: bool) -> tuple[str, str]:
    """A version to be live and a candidate that is better, or worse, than it; both in Redis."""
    best, others = _contents(world)
    live, candidate = (others, best) if better else (best, others)
    return publish.publish_version(client, live, LIVE), publish.publish_version(client, candidate, NEXT)


def _contents(world: Path) -> tuple[Content, Content]:
    """The tracks nearest to each user's interests, and to each track; and a third of those, the others drawn at random."""
    vectors, rng = np.load(world / "tracks.npy"), np.random.default_rng(1)
    best, others = {}, {}
    for line in (world / "users.json").read_text().splitlines():
        told = json.loads(line)
        nearest = np.argsort(-(vectors @ vectors[told["interests"]].T).max(axis=1))[:50]
        best[told["user"]] = keyspace.pack(nearest.tolist())
        others[told["user"]] = keyspace.pack(list(dict.fromkeys(_mixed(rng, nearest, len(vectors)).tolist())))
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    near = np.argsort(-similar, axis=1)[:, :20]
    popular = keyspace.pack(range(100))
    packed = [keyspace.pack(found.ravel().tolist()) for found in (near, _mixed(rng, near, len(vectors)))]
    return Content(best, popular, packed[0]), Content(others, popular, packed[1])


def _mixed(rng: np.random.Generator, tracks: np.ndarray, among: int) -> np.ndarray:
    return np.where(rng.random(tracks.shape) < 1 / 3, tracks, rng.integers(0, among, tracks.shape))
