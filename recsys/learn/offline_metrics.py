"""Ranking metrics as the literature on implicit feedback defines them (Liang et al. 2018, section 4.2).

In go ranked lists and the held-out tracks of each user; out comes one figure a user, so that differences can be bootstrapped.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Lists = npt.NDArray[np.int64]


class Activity(TypedDict):
    """A figure among users of similar activity: how many there are, the most positives of one, the mean."""

    users: int
    most_positives: int
    mean: float


#: Resamples of a bootstrap.
REPEATS = 1000


def top_k(scores: npt.NDArray[np.float32], k: int) -> Lists:
    """The k best tracks of each row by descending score, ties by ascending track id; exact.

    Args:
        scores: float32 [rows, tracks]; -inf excludes a track.
    """
    import torch

    k = min(k, scores.shape[1])
    tensor = torch.from_numpy(np.ascontiguousarray(scores))
    # One more than wanted: where it equals the last wanted score, torch's choice among equals is arbitrary.
    values, indices = torch.topk(tensor, min(k + 1, scores.shape[1]), dim=1)
    straddled = (values[:, k:] == values[:, k - 1 : k]).any(dim=1).numpy()
    best, tracks = values[:, :k].numpy().copy(), indices[:, :k].numpy().astype(np.int64)
    for row in np.flatnonzero(straddled):
        candidates = np.flatnonzero(scores[row] >= best[row, -1])
        tracks[row] = candidates[np.argsort(-scores[row, candidates], kind="stable")[:k]]
        best[row] = scores[row, tracks[row]]
    order = np.lexsort((tracks, -best), axis=1)
    return np.take_along_axis(tracks, order, axis=1)


def hits(ranked: Lists, held_out: Sequence[npt.NDArray[np.integer]], tracks: int) -> npt.NDArray[np.bool_]:
    """Which places of the lists hold held-out tracks: bool [users, k]; a place with -1 holds nothing.

    >>> hits(np.array([[4, 2, 0]]), [np.array([2, 3])], tracks=5).tolist()
    [[False, True, False]]
    """
    wanted = np.zeros(tracks + 1, dtype=bool)  # the last one is that of -1
    found = np.zeros(ranked.shape, dtype=bool)
    for row, relevant in enumerate(held_out):
        wanted[relevant] = True
        found[row] = wanted[ranked[row]]
        wanted[relevant] = False
    return found


def recall_at_k(found: npt.NDArray[np.bool_], sizes: npt.NDArray[np.integer], k: int) -> Floats:
    """Hits among the first k over min(k, number of held-out tracks), a user.

    One of three held-out tracks is among the first two, where at most two could be:

    >>> recall_at_k(np.array([[False, True, False]]), np.array([3]), 2).tolist()
    [0.5]
    """
    share: Floats = found[:, :k].sum(axis=1) / np.minimum(k, sizes)
    return share


def ndcg_at_k(found: npt.NDArray[np.bool_], sizes: npt.NDArray[np.integer], k: int) -> Floats:
    """Discounted gain of the first k with discount 1 / log2(place + 1), over the best one possible, a user.

    The one held-out track stands in the first place, or in the third:

    >>> ndcg_at_k(np.array([[True, False, False], [False, False, True]]), np.array([1, 1]), 3).tolist()
    [1.0, 0.5]
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gained = (found[:, :k] * discounts[: found.shape[1]]).sum(axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(k, sizes)]
    return np.asarray(gained / ideal)


def coverage(ranked: Lists, tracks: int) -> float:
    """Share of the catalogue that stands in at least one list."""
    return float(len(np.unique(ranked)) / tracks)


def artist_spread(ranked: Lists, artist_of: npt.NDArray[np.integer]) -> float:
    """Distinct artists of a list over its length, the mean over users; 1 if no list names an artist twice.

    >>> artist_spread(np.array([[0, 1], [0, 2]]), artist_of=np.array([7, 7, 8]))
    0.75
    """
    artists = np.sort(artist_of[ranked], axis=1)
    return float((1 + (np.diff(artists, axis=1) != 0).sum(axis=1)).mean() / ranked.shape[1])


def by_activity(values: Floats, activity: npt.NDArray[np.integer], parts: int = 3) -> list[Activity]:
    """Means of a figure over equal parts of the users, the least active ones first.

    Args:
        values, activity: [users], the figure and the number of positives before.
    """
    order = np.argsort(activity, kind="stable")
    return [
        Activity(users=len(part), most_positives=int(activity[part].max()), mean=round(float(values[part].mean()), 6))
        for part in np.array_split(order, min(parts, len(order)))
        if len(part)
    ]


def bootstrap_interval(values: Floats, seed: int) -> tuple[float, float]:
    """Percentile interval (95 %) of the mean over users, resampling users."""
    rng = np.random.default_rng(seed)
    n = len(values)
    means = [float(values[rng.integers(0, n, n)].mean()) for _ in range(REPEATS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
