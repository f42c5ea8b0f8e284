"""Catalogues of the tests: tracks as lines of tracks.json, and what the service makes of them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from recsys.catalog import TRACKS, Catalogue
from recsys.service.world import World

Line = dict[str, str | int | bool]


def tracks_of(count: int) -> list[Line]:
    """Lines of that many tracks."""
    return [{"artist": f"a{i % 30}", "title": f"t{i}", "track": i} for i in range(count)]


def write_tracks(directory: Path, lines: Iterable[Mapping[str, str | int | bool]]) -> None:
    """Write tracks.json, at once."""
    beside = directory / f"{TRACKS}.new"
    beside.write_text("".join(json.dumps(line) + "\n" for line in lines))
    beside.replace(directory / TRACKS)


def world_of(count: int, retired: Iterable[int] = (), ids: Mapping[int, str] | None = None) -> World:
    """A world of that many tracks, each of an artist of its own."""
    available = np.ones(count, bool)
    available[list(retired)] = False
    named = [(ids or {}).get(track) for track in range(count)]
    titles = [f"t{track}" for track in range(count)]
    return World.of(
        Catalogue(np.arange(count, dtype=np.int32), [f"a{track}" for track in range(count)], titles, named, available)
    )
