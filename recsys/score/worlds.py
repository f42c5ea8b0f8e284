"""The standard worlds: generated from fixed seeds, with exploratory logs, and kept below ``RECSYS_VAR``.

In go a seed and sizes; out comes a :class:`World`, made once.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from recsys.models.identity import code_of
from recsys.night.catalogue import tracks_of
from recsys.night.night import Night
from recsys.score.given import LEARNED, SEED, night_of
from recsys.score.logs import publish_interactions
from recsys.simulate.audience import Audience
from recsys.simulate.world import generate

#: Seeds of the worlds; no setting of a model has been compared on these.
SEEDS = (4101, 4102)
#: Share of artists among the tracks, as in a generated world.
ARTISTS = 0.22


@dataclass(frozen=True)
class Size:
    """Tracks and listeners of each world, exploratory sessions to learn from, and sessions that each arm plays."""

    tracks: int
    users: int
    explored: int
    played: int


FULL = Size(tracks=10_000, users=2_000, explored=100_000, played=20_000)
QUICK = Size(tracks=2_000, users=400, explored=10_000, played=2_000)


@dataclass(frozen=True)
class World:
    """A world with its listeners and its logs.

    Attributes:
        night: the one that would learn from the logs. digest: of everything that the logs were made from.
    """

    name: str
    audience: Audience
    night: Night
    digest: str


def prepare(directory: Path, seed: int, size: Size) -> World:
    """A world below a directory, with logs of exploratory sessions; both are made if they are not there yet."""
    world = directory / "worlds" / f"{seed}-{size.tracks}-{size.users}"
    generate(world, tracks=size.tracks, artists=round(ARTISTS * size.tracks), users=size.users, seed=seed)
    audience = Audience(world)
    identity = [audience.checksum, size.explored, SEED, code_of([f"{__package__}.logs", "recsys.simulate.audience"])]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    night = night_of(f"file://{(directory / 'logs' / digest[:16]).resolve()}", world)
    if not night.store.is_complete(night.interactions):
        tracks_of(night)
        publish_interactions(night.store, night.log_date, audience.explored(size.explored, SEED, LEARNED))
    return World(f"world {seed}", audience, night, digest)
