"""Which track answers: pure, deterministic functions of a request's hash and the session so far.

Every policy yields candidates that are equally likely under its hash, so the propensity of an answer is exact.
"""

import struct
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import mmh3

_WORDS = struct.Struct("<IIIII").pack


class Choice(NamedTuple):
    """The answer to a ``next`` request: a track, what chose it, and the probability with which the policy chooses it."""

    track: int
    source: str
    propensity: float


class Candidates(NamedTuple):
    """Equally likely answers of a policy."""

    tracks: Sequence[int]
    source: str


def request_hash(seed: int, user: int, session: int, step: int, track: int) -> Callable[[int], int]:
    """Hashes of one request, uniform in [0, 2**32), by purpose; nothing else may decide."""

    def draw(purpose: int) -> int:
        return mmh3.hash(_WORDS(user, session, step, track, purpose), seed, signed=False)

    return draw


def from_list(tracks: Sequence[int], played: AbstractSet[int], source: str) -> Candidates | None:
    """The first unplayed track of a list, or None."""
    for track in tracks:
        if track not in played:
            return Candidates((track,), source)
    return None


def from_any(tracks: Sequence[int], played: AbstractSet[int], source: str) -> Candidates | None:
    """Any unplayed track of a list, or None."""
    left = [track for track in tracks if track not in played]
    return Candidates(left, source) if left else None


def pick(candidates: Candidates, draw: Callable[[int], int]) -> Choice:
    """One of the candidates."""
    tracks = candidates.tracks
    n = len(tracks)
    return Choice(tracks[draw(0) % n] if n > 1 else tracks[0], candidates.source, 1.0 / n)


def unplayed(catalogue: int, played: AbstractSet[int], draw: Callable[[int], int]) -> int:
    """A track uniform over those not played; any track once all have been played."""
    for purpose in range(2, 66):
        track = draw(purpose) % catalogue
        if track not in played:
            return track
    # So many misses mean that nearly everything has been played: walk on from the last draw.
    for step in range(catalogue):
        if (track + step) % catalogue not in played:
            return (track + step) % catalogue
    return track


def explore(greedy: Candidates, epsilon: float, catalogue: int, played: AbstractSet[int], draw: Callable[[int], int]) -> Choice:
    """With probability epsilon an unplayed track at random, else the greedy answer; the propensity covers both ways.

    Track 7 is answered greedily, or as one of the 8 unplayed tracks of a catalogue of 10:

    >>> greedy = Candidates((7,), "dae")
    >>> [explore(greedy, 0.5, 10, {3, 4}, request_hash(1, 5, session, 1, 4)) for session in (0, 4)]
    [Choice(track=6, source='exploration', propensity=0.0625), Choice(track=7, source='dae', propensity=0.5625)]
    """
    if epsilon <= 0.0:
        return pick(greedy, draw)
    if draw(1) < epsilon * 4294967296.0:
        track, source = unplayed(catalogue, played, draw), "exploration"
    else:
        track, source, _ = pick(greedy, draw)
    uniform = epsilon / max(1, catalogue - len(played))
    share = (1.0 - epsilon) / len(greedy.tracks) if track in greedy.tracks else 0.0
    return Choice(track, source, uniform + share)
