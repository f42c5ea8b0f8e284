"""Session lists from the response model's vectors: which candidates a taste gets, in which order, and which tastes a user has.

In go vectors, tastes and levels of listeners; out come :class:`~recsys.versions.session_lists.SessionLists` and each user's
groups, a few numbers of lists. At most ``ROWS`` tastes have a list of their own; others share the list of the nearest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.learn.offline_metrics import top_k
from recsys.models.firsts import Tastes
from recsys.versions.session_lists import DISCOUNTS, WHOLE_DISCOUNT, WHOLE_TIME, SessionLists

#: Lists, and candidates a list: 6 bytes each, so at most 48 MB a version.
ROWS, CANDIDATES = 40_000, 200
#: Number of scores that a candidate may have.
SCORES = 1024
#: Levels of listeners: bias in so many parts, slope in two.
BIASES, SLOPES = 8, 2
#: Share of the users' own first tracks that lie near one of their groups, by definition of near.
USUAL = 0.99
_CHUNK = 1024


@dataclass(frozen=True)
class Levels:
    """How easily listeners are pleased: expected time is sigmoid(slope * (score - bias)).

    Attributes:
        level: int32 [users], 0 for users that the logs do not know. slope, bias: float64 [levels], of the typical user of each.
    """

    level: npt.NDArray[np.int32]
    slope: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]

    @classmethod
    def of(cls, slope: npt.NDArray[np.float64], bias: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> "Levels":
        """Levels from each user's slope and bias, float64 [users]; ``known``: bool [users], users with answered plays."""
        level = np.zeros(len(slope), np.int32)
        slopes, biases = [float(slope[known].mean())], [float(bias[known].mean())]
        order = np.flatnonzero(known)[np.argsort(bias[known], kind="stable")]
        for part in np.array_split(order, min(BIASES, len(order))):
            for half in np.array_split(part[np.argsort(slope[part], kind="stable")], min(SLOPES, len(part))):
                level[half] = len(slopes)
                slopes.append(float(slope[half].mean()))
                biases.append(float(bias[half].mean()))
        return cls(level, np.array(slopes), np.array(biases))

    def times(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
        """Expected times of ascending scores in 65,535ths, uint16 [levels, scores]."""
        logit = self.slope[:, None] * (scores - self.bias[:, None])
        return np.rint(WHOLE_TIME / (1 + np.exp(-np.clip(logit, -40, 40)))).astype(np.uint16)


def build(
    vectors: npt.NDArray[np.float32],
    tastes: Tastes,
    known: npt.NDArray[np.bool_],
    listeners: Levels,
    gamma: float,
    artist_of: npt.NDArray[np.int32],
    begun: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> tuple[SessionLists, npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Rank every known track for every taste.

    Args:
        vectors: [tracks, dims], of answers. known: bool [tracks], available tracks that the logs say anything about.
        listeners: how easily users are pleased. gamma: the artist discount.
        begun: rows of users and tracks with which they began sessions.

    Returns:
        The lists; the users' tastes, int32 [users with groups, 2 + most groups]: row of the user, level, numbers of lists (the
        largest group's first), -1 where there is none; and the share of the user's sessions in each group, float32, 0 for none.
    """
    count = len(tastes.row)
    chosen = np.sort(np.argsort(-tastes.size, kind="stable")[:ROWS])
    # One scale for tracks and lists, so that distances compare.
    scale = 127 / max(1e-9, float(np.abs(tastes.about).max()), float(np.abs(tastes.mean).max()))
    firsts, places = (np.rint(part * scale).astype(np.int8) for part in (tastes.about, tastes.mean[chosen]))
    row_of = _nearest(firsts, places)
    group = np.arange(count)
    own = np.searchsorted(chosen, group)
    found = chosen[np.minimum(own, len(chosen) - 1)] == group
    rows = np.where(found, own, 0)
    if not found.all():
        rows[~found] = _nearest(np.rint(tastes.mean[~found] * scale).astype(np.int8), places)
    order_of_groups = np.lexsort((rows, -tastes.size, tastes.row))
    groups = np.stack([tastes.row, rows], axis=1)[order_of_groups].astype(np.int32)
    tracks, inner = _candidates(vectors, tastes.aim[chosen], known)
    low, high = float(inner.min()), float(inner.max())
    scores = np.rint((inner - low) * ((SCORES - 1) / max(high - low, 1e-9))).astype(np.uint16)
    order = np.lexsort((tracks, -scores.astype(np.int64)), axis=1)
    tracks, scores = np.take_along_axis(tracks, order, axis=1), np.take_along_axis(scores, order, axis=1)
    times = listeners.times(np.linspace(low, high, SCORES))
    discounts = np.rint(WHOLE_DISCOUNT * gamma ** np.arange(DISCOUNTS)).astype(np.uint32)
    near = np.array([_usual_distance(firsts, places, groups, begun)], np.uint32)
    lists = SessionLists(row_of, tracks, scores, times, firsts, places, near, artist_of.astype(np.uint32), discounts)
    return lists, *_by_user(groups, tastes.size[order_of_groups], listeners.level)


def _usual_distance(
    firsts: npt.NDArray[np.int8],
    places: npt.NDArray[np.int8],
    groups: npt.NDArray[np.int32],
    begun: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> int:
    """The squared distance within which most first tracks of a user have a group of that user."""
    row, track = begun
    low, high = np.searchsorted(groups[:, 0], row), np.searchsorted(groups[:, 0], row, side="right")
    best = np.full(len(row), 2**31 - 1, np.int64)
    for number in range(int((high - low).max(initial=0))):
        has = np.flatnonzero(low + number < high)
        gap = firsts[track[has]].astype(np.int32) - places[groups[low[has] + number, 1]]
        best[has] = np.minimum(best[has], (gap * gap).sum(axis=1))
    return int(np.quantile(best, USUAL, method="higher")) if len(best) else 0


def _by_user(
    groups: npt.NDArray[np.int32], sizes: npt.NDArray[np.float32], level: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """A line a user: row, level, numbers of lists; and the groups' shares."""
    users, starts, counts = np.unique(groups[:, 0], return_index=True, return_counts=True)
    most = int(counts.max(initial=0))
    lines, shares = np.full((len(users), 2 + most), -1, np.int32), np.zeros((len(users), most), np.float32)
    lines[:, 0], lines[:, 1] = users, level[users]
    line, place = np.repeat(np.arange(len(users)), counts), np.arange(len(groups)) - np.repeat(starts, counts)
    lines[line, 2 + place], shares[line, place] = groups[:, 1], sizes
    return lines, shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)


def _candidates(
    vectors: npt.NDArray[np.float32], places: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """The tracks of each list and their inner products with its place, the largest ones."""
    import torch

    answers = np.flatnonzero(known)
    width = min(CANDIDATES, len(answers))
    tracks = np.empty((len(places), width), np.uint32)
    products = np.empty((len(places), width), np.float32)
    items = torch.from_numpy(np.ascontiguousarray(vectors[answers].T))
    for start in range(0, len(places), _CHUNK):
        inner = (torch.from_numpy(places[start : start + _CHUNK]) @ items).numpy()
        best = top_k(inner, width)
        tracks[start : start + _CHUNK] = answers[best]
        products[start : start + _CHUNK] = np.take_along_axis(inner, best, axis=1)
    return tracks, products


def _nearest(queries: npt.NDArray[np.int8], places: npt.NDArray[np.int8]) -> npt.NDArray[np.uint32]:
    """The nearest place of each query (Euclidean, exact: the integers fit a float32), ties by place."""
    wide = places.astype(np.float32)
    half_norms = (wide * wide).sum(axis=1) / 2
    rows = np.empty(len(queries), np.uint32)
    for start in range(0, len(queries), _CHUNK):
        part = queries[start : start + _CHUNK].astype(np.float32)
        rows[start : start + _CHUNK] = (part @ wide.T - half_norms).argmax(axis=1)
    return rows
