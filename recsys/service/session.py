"""The session-aware answer: candidates of the session's taste, discounted by how often their artist has been played.

In go a version's session lists, the user's taste and the plays of a session; out comes the best unplayed candidate. Everything is
an integer and ties go to the earlier place in the list, so that batch size, worker and machine cannot change an answer.
"""

from array import array
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from operator import mul

import numpy as np
import numpy.typing as npt

from recsys.service.choose import Candidates
from recsys.versions.session_lists import SessionLists


class SessionChooser:
    """Session lists as plain arrays, which answer faster than NumPy's one element at a time."""

    def __init__(self, lists: SessionLists) -> None:
        self._width = lists.tracks.shape[1]
        self._row_of = array("I", lists.row_of.tobytes())
        self._tracks = array("I", np.ascontiguousarray(lists.tracks).tobytes())
        self._scores = array("H", np.ascontiguousarray(lists.scores).tobytes())
        self._artist_of = array("I", lists.artist_of.tobytes())
        self._times = [array("H", row.tobytes()) for row in lists.times]
        self._discounts = lists.discounts.tolist()
        self._firsts, self._places = (_points(part) for part in (lists.firsts, lists.places))
        self._near = int(lists.near[0])

    @property
    def size(self) -> int:
        """Number of tracks that a session may begin with."""
        return len(self._row_of)

    def row(self, first: int, groups: Sequence[int]) -> int:
        """The list of a session: of the user's groups the one nearest to its first track, unless that is far from all."""
        nearest, row = self._near + 1, self._row_of[first]
        here, length = self._firsts[first]
        for number in groups:
            there, its_length = self._places[number]
            distance = length + its_length - 2 * sum(map(mul, here, there))
            if distance < nearest:
                nearest, row = distance, number
        return row

    def best(
        self,
        plays: Sequence[int],
        played: AbstractSet[int],
        taste: Sequence[int] = (),
        barred: AbstractSet[int] = frozenset(),
    ) -> Candidates | None:
        """The unplayed candidate with the largest score after its artist's discount, or None.

        Tracks that are not among the lists' count as not played; a session of nothing else has no candidate.

        Args:
            plays: track and time of each play of the session, one after another. played: its tracks.
            taste: the user's level and the numbers of the lists of the user's groups; empty for an unknown user.
            barred: tracks that are no candidates.
        """
        heard: Sequence[int] = plays[::2]
        if max(heard) >= self.size:
            heard = [track for track in heard if track < self.size]
            if not heard:
                return None
        start = self.row(heard[0], taste[1:]) * self._width
        artist_of, discounts, last = self._artist_of, self._discounts, len(self._discounts) - 1
        count: dict[int, int] = {}
        for track in heard:
            artist = artist_of[track]
            count[artist] = count.get(artist, 0) + 1
        times = self._times[taste[0] if taste else 0]
        best, chosen = -1, -1
        tracks = self._tracks[start : start + self._width]
        for track, score in zip(tracks, self._scores[start : start + self._width], strict=True):
            time = times[score]
            if time * discounts[0] <= best:
                break  # times descend: no later track can be better
            if track not in played and track not in barred:
                value = time * discounts[min(count.get(artist_of[track], 0), last)]
                if value > best:
                    best, chosen = value, track
        return Candidates((chosen,), "session") if chosen >= 0 else None


def _points(rows: npt.NDArray[np.int8]) -> list[tuple["array[int]", int]]:
    """Coordinates and squared length of each row."""
    lengths = (rows.astype(np.int32) ** 2).sum(axis=1).tolist()
    return [(array("b", row.tobytes()), length) for row, length in zip(rows, lengths, strict=True)]
