"""Which tracks to play after a track: those that were heard to the end in the same sessions.

In go answered plays; out come 20 tracks for each track, as a version holds them. The relevance of t after s is the share of t's
plays that went on for long, among the sessions in which s did, too; few plays say little, so each share is drawn towards what is
usual for t, as much as :data:`PRIOR` plays would do it, and that one towards what is usual at all.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.learn.plays import Plays
from recsys.schemas import NEIGHBOURS, POSITIVE_TIME

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Plays that what is usual counts as.
PRIOR = 3.0
#: Tracks whose rows are made at a time.
ROWS = 4096


def table(plays: Plays) -> npt.NDArray[np.uint32]:
    """Available tracks that go better than usual with each track, best first, ties by id, without the track itself.

    Returns:
        uint32 [tracks, 20]. A row that has fewer ends with the track itself, which is never answered to its own play.
    """
    tracks = len(plays.artist_of)
    fresh, long = ~plays.repeated, plays.time > 100 * POSITIVE_TIME
    usual = _usual(plays, fresh & (plays.step > 0), long)
    played, heard = _sessions(plays, fresh), _sessions(plays, fresh & long)
    together = heard.T.tocsr()
    rows = np.repeat(np.arange(tracks, dtype=np.uint32)[:, None], NEIGHBOURS, axis=1)
    for start in range(0, tracks, ROWS):
        block = together[start : start + ROWS]
        both = block @ heard
        count = both.sign().multiply(block @ played).tocsr()
        both.sort_indices()
        count.sort_indices()
        row, track = np.repeat(np.arange(both.shape[0]), np.diff(both.indptr)), both.indices.astype(np.int64)
        share = (both.data + PRIOR * usual[track]) / (count.data + PRIOR)
        good = (share > usual[track]) & plays.available[track] & (row + start != track)
        row, track, share = row[good], track[good], share[good]
        order = np.lexsort((track, -share, row))
        row, track = row[order], track[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        best = place < NEIGHBOURS
        rows[start + row[best], place[best]] = track[best]
    return rows


def _usual(plays: Plays, chosen: npt.NDArray[np.bool_], long: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """How often each track is heard for long when it is an answer, float64 [tracks]."""
    tracks = len(plays.artist_of)
    count = np.bincount(plays.track[chosen], minlength=tracks)
    liked = np.bincount(plays.track[chosen & long], minlength=tracks)
    usual: npt.NDArray[np.float64] = (liked + PRIOR * liked.sum() / max(1, count.sum())) / (count + PRIOR)
    return usual


def _sessions(plays: Plays, chosen: npt.NDArray[np.bool_]) -> "csr_matrix":
    """Binary sessions x tracks matrix of the chosen plays, none of which repeats a track in its session."""
    from scipy.sparse import csr_matrix

    session = np.cumsum(plays.step == 0) - 1
    ones = np.ones(int(chosen.sum()), np.float32)
    shape = (int((plays.step == 0).sum()), len(plays.artist_of))
    return csr_matrix((ones, (session[chosen], plays.track[chosen])), shape=shape)
