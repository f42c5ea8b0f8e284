"""The policies' probabilities, computed anew from what they are documented to answer from.

A policy answers any unplayed track with probability exploration / (unplayed tracks), and besides one of its equally likely
candidates: the first unplayed track of the user's list (``dae``), the unplayed neighbours of the track before (``contextual``),
the unplayed tracks of the TOP 100 (``top100``).
"""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import isclose
from pathlib import Path

import numpy as np

from tests.nemesis.history import Line

TOP_LENGTH = 100


class Policies:
    """Lists, neighbours and TOP 100 of versions, from their files.

    Args:
        storage: a local storage. tracks: size of the catalogue.
    """

    def __init__(self, storage: Path, tracks: int) -> None:
        self.tracks = tracks
        self._storage = storage
        self._files = lru_cache(maxsize=None)(self._read)

    def _read(self, version: str) -> tuple[dict[int, list[int]], list[int], np.ndarray] | None:
        directory = self._storage / "recommendations" / f"date={version[:10]}"
        if not version or not (directory / "neighbours.npy").exists():
            return None
        rows = map(json.loads, (directory / "recommendations.json").read_text().splitlines())
        top = json.loads((directory / "top_tracks.json").read_bytes())[:TOP_LENGTH]
        return {row["user"]: row["tracks"] for row in rows}, top, np.load(directory / "neighbours.npy")

    def candidates(self, line: Line, source: str, played: set[int]) -> set[int] | None:
        """What the source of an answer could have answered beside what is explored; None if these files do not tell."""
        files = self._files(line["version"])
        if files is None:
            return None
        lists, top, neighbours = files
        if source == "dae":
            return set([track for track in lists[line["user"]] if track not in played][:1])
        if source == "contextual":
            return set(neighbours[line["track"]].tolist()) - played
        return set(top) - played if source == "top100" else None


def listened(steps: Sequence[Line]) -> Iterator[tuple[Line, list[int]]]:
    """The ``next`` lines of a session in order, each with what had been played by then."""
    heard: list[int] = []
    for line in steps:
        heard.append(line["track"])
        if line["message"] == "next":
            yield line, list(heard)


def wrong(line: Line, heard: Sequence[int], exploration: float, policies: Policies) -> str | None:
    """Why the propensity of an answer is not what the policy has; None if it is.

    Args:
        heard: the tracks that the session had played, the request's included. exploration: share of random answers.
    """
    played = set(heard)
    answer, chance, source = line["recommendation"], line["propensity"], line["source"]
    told = f"propensity {chance} of track {answer} ({source}, {len(played)} played)"
    if not (isinstance(chance, float) and 0 < chance <= 1):
        return f"{told} is no probability"
    uniform = exploration / (policies.tracks - len(played))
    greedy = chance - uniform
    if source == "exploration" and isclose(chance, uniform, abs_tol=1e-9):
        return None
    # The rest is one of some equally likely candidates; together with the uniform part they sum to one.
    share = (1 - exploration) / greedy if greedy > 1e-9 else 0.0
    if share < 1 - 1e-6 or not isclose(share, round(share), rel_tol=1e-6):
        return f"{told}: with exploration {exploration} no number of candidates gives it"
    possible = policies.candidates(line, source, played)
    if possible is not None and (answer not in possible or len(possible) != round(share)):
        return f"{told}: it could have been one of {sorted(possible)[:10]} ({len(possible)})"
    return None
