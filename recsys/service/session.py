"""The session-aware answer: candidates of the session's first track, discounted by how often their artist has been played.

In go a version's lists by first track and the plays of a session; out comes the best unplayed candidate. Everything is an integer
and ties go to the lower track id, so that batch size, worker and machine cannot change an answer.
"""

from array import array
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from recsys.service.choose import Candidates
from recsys.session_lists import SessionLists


class SessionChooser:
    """Lists by first track as plain arrays, which answer faster than NumPy's one element at a time."""

    def __init__(self, lists: SessionLists) -> None:
        self._width = lists.tracks.shape[1]
        self._row_of = array("I", lists.row_of.tobytes())
        self._tracks = array("I", np.ascontiguousarray(lists.tracks).tobytes())
        self._scores = array("H", np.ascontiguousarray(lists.scores).tobytes())
        self._artist_of = array("I", lists.artist_of.tobytes())
        self._discounts = lists.discounts.tolist()

    def best(self, plays: Sequence[int], played: AbstractSet[int]) -> Candidates | None:
        """The unplayed candidate with the largest score after its artist's discount, or None.

        Args:
            plays: track and time of each play of the session, one after another. played: its tracks.
        """
        start = self._row_of[plays[0]] * self._width
        artist_of, discounts, last = self._artist_of, self._discounts, len(self._discounts) - 1
        count: dict[int, int] = {}
        for track in plays[::2]:
            artist = artist_of[track]
            count[artist] = count.get(artist, 0) + 1
        best, chosen = -1, -1
        tracks = self._tracks[start : start + self._width]
        for track, score in zip(tracks, self._scores[start : start + self._width], strict=True):
            if score * discounts[0] < best:
                break  # scores descend: no later one can win
            if track not in played:
                value = score * discounts[min(count.get(artist_of[track], 0), last)]
                if value > best or (value == best and track < chosen):
                    best, chosen = value, track
        return Candidates((chosen,), "session") if chosen >= 0 else None
