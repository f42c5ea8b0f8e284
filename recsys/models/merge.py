"""Which of a user's groups of first tracks are one taste: those whose answers the place of a larger group explains as well.

In go groups and the answered plays of their sessions; out come fewer groups. How much worse an answer may be explained is the
bound under which sessions that were left out are most probable.
"""

import logging
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from recsys.models.firsts import Tastes
from recsys.models.refine import LEFT_OUT, SAMPLE, Answers, Floats, Ints, losses, most_probable

log = logging.getLogger(__name__)

#: Losses an answer by which another place may be worse; 0 leaves all groups apart.
BOUNDS = (0.0, 0.001, 0.0025, 0.005, 0.01, 0.02)
#: Precision of places while groups are compared.
PRECISION = 0.5


def merge(tastes: Tastes, vectors: Floats, answers: Answers, session: Ints, seed: int) -> tuple[Tastes, Ints]:
    """Fewer tastes, and for each old one the new one, int64 [tastes].

    Args:
        vectors: [tracks, dims]. session: int64 [n], of each answer.
    """
    sample = np.random.default_rng([seed, 7]).permutation(np.unique(tastes.row))[:SAMPLE]
    judged = answers.chosen(inside := np.isin(tastes.row[answers.taste], sample))
    out = session[inside] % LEFT_OUT == 0
    apart = np.arange(len(tastes.row))
    if not out.any() or out.all():
        return tastes, apart
    seen, unseen = judged.chosen(~out), judged.chosen(out)
    gap, larger = _gaps(tastes, vectors, seen)
    found = []
    for bound in BOUNDS:
        of = _roots(gap, larger, bound)
        one = _united(tastes, of)
        places = most_probable(one.mean, vectors, replace(seen, taste=of[seen.taste]), PRECISION, one.mean)
        found.append(float(losses(places, vectors, replace(unseen, taste=of[unseen.taste])).mean()))
    bound = BOUNDS[int(np.argmin(found))]
    of = _roots(*_gaps(tastes, vectors, answers), bound)
    log.info("groups: bound %s, loss %.5f, apart %.5f, %d of %d left", bound, min(found), found[0], of.max() + 1, len(of))
    return _united(tastes, of), of


def _gaps(tastes: Tastes, vectors: Floats, answers: Answers) -> tuple[npt.NDArray[np.float64], Ints]:
    """For each taste: how much worse the best of the user's larger ones explains its answers, infinite for none, and which."""
    places = most_probable(tastes.mean, vectors, answers, PRECISION, tastes.mean)
    count = len(tastes.row)
    order = np.lexsort((np.arange(count), -tastes.size, tastes.row))
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count) - np.searchsorted(tastes.row[order], tastes.row[order])
    first = np.empty(count, np.int64)
    first[order] = np.searchsorted(tastes.row[order], tastes.row[order])
    plays = np.maximum(np.bincount(answers.taste, minlength=count), 1)
    own = np.bincount(answers.taste, losses(places, vectors, answers), count) / plays
    gap, larger = np.full(count, np.inf), np.arange(count)
    for number in range(int(rank.max(initial=0))):
        has = rank[answers.taste] > number
        part = answers.chosen(has)
        other = order[first + np.minimum(number, rank)]
        worse = np.bincount(part.taste, losses(places, vectors, replace(part, taste=other[part.taste])), count) / plays - own
        closer = (rank > number) & (np.bincount(part.taste, minlength=count) > 0) & (worse < gap)
        gap[closer], larger[closer] = worse[closer], other[closer]
    return gap, larger


def _roots(gap: npt.NDArray[np.float64], larger: Ints, bound: float) -> Ints:
    """The number of each taste's union, int64 [tastes], 0 to unions - 1."""
    root = np.where(gap < bound, larger, np.arange(len(gap)))
    while (root[root] != root).any():
        root = root[root]
    return np.unique(root, return_inverse=True)[1]


def _united(tastes: Tastes, of: Ints) -> Tastes:
    count = int(of.max()) + 1
    size = np.bincount(of, tastes.size, count)
    mean = np.zeros((count, tastes.mean.shape[1]))
    np.add.at(mean, of, tastes.mean * tastes.size[:, None])
    row = np.zeros(count, np.int64)
    row[of] = tastes.row
    mean32 = (mean / size[:, None]).astype(np.float32)
    return replace(tastes, row=row, size=size.astype(np.float32), mean=mean32, aim=mean32)
