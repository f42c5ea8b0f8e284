"""Which track answers: pure, deterministic functions of a request's hash and the session so far.

Every policy yields candidates that are equally likely under its hash, so the propensity of an answer is exact.
"""

import struct
from array import array
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import mmh3

#: User, session, step, track and purpose; users from 2**32 on are hashed whole.
_WORDS, _WIDE = struct.Struct("<IIIII").pack, struct.Struct("<QIIII").pack


class Choice(NamedTuple):
    """The answer to a ``next`` request: a track, what chose it, and the probability with which the policy chooses it."""

    track: int
    source: str
    propensity: float


class Candidates(NamedTuple):
    """Equally likely answers of a policy."""

    tracks: Sequence[int]
    source: str


class Stock(NamedTuple):
    """The tracks that may be answered: those of a catalogue but for the retired ones.

    Attributes:
        size: of the catalogue. available: ascending.
        barred: all other tracks that a list may name, retired ones and those that are not in the catalogue.
    """

    size: int
    available: Sequence[int]
    barred: frozenset[int] = frozenset()

    @classmethod
    def of(cls, size: int, retired: frozenset[int] = frozenset()) -> "Stock":
        """What is left of a catalogue."""
        available = range(size) if not retired else array("I", (track for track in range(size) if track not in retired))
        return cls(size, available, retired)

    def without(self, others: Collection[int]) -> "Stock":
        """The same, where lists may name these tracks, too, which are not in the catalogue."""
        return self._replace(barred=self.barred.union(others)) if others else self

    def left(self, played: AbstractSet[int]) -> int:
        """How many available tracks have not been played; 1 once all have been."""
        heard = len(played)
        if self.barred or (played and max(played) >= self.size):
            heard = sum(track < self.size and track not in self.barred for track in played)
        return max(1, len(self.available) - heard)


def request_hash(seed: int, user: int, session: int, step: int, track: int) -> Callable[[int], int]:
    """Hashes of one request, uniform in [0, 2**32), by purpose; nothing else may decide."""
    words = _WORDS if user < 4294967296 else _WIDE

    def draw(purpose: int) -> int:
        return mmh3.hash(words(user, session, step, track, purpose), seed, signed=False)

    return draw


def from_list(tracks: Sequence[int], played: AbstractSet[int], barred: AbstractSet[int], source: str) -> Candidates | None:
    """The first track of a list that was not played and is not barred, or None."""
    for track in tracks:
        if track not in played and track not in barred:
            return Candidates((track,), source)
    return None


def from_any(tracks: Sequence[int], played: AbstractSet[int], barred: AbstractSet[int], source: str) -> Candidates | None:
    """Any track of a list that was not played and is not barred, or None."""
    left = [track for track in tracks if track not in played]
    if barred:
        left = [track for track in left if track not in barred]
    return Candidates(left, source) if left else None


def pick(candidates: Candidates, draw: Callable[[int], int]) -> Choice:
    """One of the candidates."""
    tracks = candidates.tracks
    n = len(tracks)
    return Choice(tracks[draw(0) % n] if n > 1 else tracks[0], candidates.source, 1.0 / n)


def unplayed(stock: Stock, played: AbstractSet[int], draw: Callable[[int], int]) -> int:
    """A track uniform over the available ones that were not played; any of them once all have been."""
    available = stock.available
    count = len(available)
    for purpose in range(2, 66):
        place = draw(purpose) % count
        track = available[place]
        if track not in played:
            return track
    # So many misses mean that nearly everything has been played: walk on from the last draw.
    for step in range(count):
        if available[(place + step) % count] not in played:
            return available[(place + step) % count]
    return track


def explore(greedy: Candidates, epsilon: float, stock: Stock, played: AbstractSet[int], draw: Callable[[int], int]) -> Choice:
    """With probability epsilon an unplayed track at random, else the greedy answer; the propensity covers both ways.

    Where there are no candidates, the greedy answer is an unplayed track at random, too. Track 7 is answered greedily, or as one
    of the 8 unplayed tracks of a catalogue of 10:

    >>> greedy = Candidates((7,), "dae")
    >>> [explore(greedy, 0.5, Stock.of(10), {3, 4}, request_hash(1, 5, session, 1, 4)) for session in (0, 4)]
    [Choice(track=6, source='exploration', propensity=0.0625), Choice(track=7, source='dae', propensity=0.5625)]
    """
    explores = epsilon > 0.0 and draw(1) < epsilon * 4294967296.0
    if not greedy.tracks:
        source = "exploration" if explores else greedy.source
        return Choice(unplayed(stock, played, draw), source, 1.0 / stock.left(played))
    if epsilon <= 0.0:
        return pick(greedy, draw)
    if explores:
        track, source = unplayed(stock, played, draw), "exploration"
    else:
        track, source, _ = pick(greedy, draw)
    uniform = epsilon / stock.left(played)
    share = (1.0 - epsilon) / len(greedy.tracks) if track in greedy.tracks else 0.0
    return Choice(track, source, uniform + share)
