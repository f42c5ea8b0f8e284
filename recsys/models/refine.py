"""What answers say about tastes and tracks: places of tastes and vectors of tracks, moved to where plays put them.

In go places of groups of first tracks, vectors of tracks and the answered plays of sessions that began in each group; out come
refined places and vectors. Around its place a taste is normal with one precision for all; the refined place is the most probable
one (logistic regression with that prior, by Newton's method). Vectors are refined likewise, places held still. The precision is
the one under which sessions that were left out are most probable.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

#: Precisions that are tried; infinity leaves places as they are.
PRECISIONS = (0.05, 0.15, 0.5, 1.5, 4.0, 10.0, float("inf"))
#: Users or tracks on which they are tried, and one of how many sessions is left out.
SAMPLE, LEFT_OUT = 1500, 5
#: How often places and vectors take turns.
ROUNDS = 2
#: Iterations of Newton's method, the longest step, and plays handled together.
STEPS, LONGEST, _PLAYS = 5, 1.0, 200_000


@dataclass(frozen=True)
class Answers:
    """Answered plays: the taste and track of each, int64 [n]; the time heard, and slope and bias of its user, float32 [n]."""

    taste: Ints
    track: Ints
    heard: Floats
    slope: Floats
    bias: Floats

    def chosen(self, mask: npt.NDArray[np.bool_]) -> "Answers":
        """Those where ``mask`` is true."""
        return Answers(self.taste[mask], self.track[mask], self.heard[mask], self.slope[mask], self.bias[mask])


def alternate(places: Floats, vectors: Floats, answers: Answers, session: Ints, owner: Ints, seed: int) -> tuple[Floats, Floats]:
    """Places of tastes and vectors of tracks, moved in turns; arguments as in :func:`refine`."""
    moved, near = places, vectors
    track_answers = replace(answers, taste=answers.track, track=answers.taste)
    for _ in range(ROUNDS):
        moved = refine(places, near, answers, session, owner, seed, begin=moved)
        near = refine(vectors, moved, track_answers, session, np.arange(len(vectors)), seed, begin=near)
    return moved, near


def refine(
    places: Floats, vectors: Floats, answers: Answers, session: Ints, owner: Ints, seed: int, begin: Floats | None = None
) -> Floats:
    """Places moved by answers.

    Args:
        places: [tastes, dims]. vectors: [tracks, dims]. session: int64 [n], of each answer. owner: int64 [tastes], the user.
        begin: [tastes, dims], where Newton's method begins; the places themselves if None.

    Returns:
        float32 [tastes, dims].
    """
    begin = places if begin is None else begin
    users = np.unique(owner)
    sample = np.random.default_rng([seed, 6]).permutation(users)[:SAMPLE]
    judged = answers.chosen(inside := np.isin(owner[answers.taste], sample))
    out = session[inside] % LEFT_OUT == 0
    if not out.any() or out.all():
        return places
    found = []
    for precision in PRECISIONS:
        moved = most_probable(places, vectors, judged.chosen(~out), precision, begin)
        found.append(float(losses(moved, vectors, judged.chosen(out)).mean()))
    best = PRECISIONS[int(np.argmin(found))]
    log.info("refined: precision %s, loss %.5f, as they are %.5f", best, min(found), found[-1])
    return most_probable(places, vectors, answers, best, begin)


def losses(places: Floats, vectors: Floats, answers: Answers) -> Floats:
    """Cross-entropy of each answer, float32 [n]."""
    found = np.empty(len(answers.taste), np.float32)
    for start in range(0, len(found), _PLAYS):
        part = slice(start, start + _PLAYS)
        score = np.einsum("nd,nd->n", vectors[answers.track[part]], places[answers.taste[part]])
        logit = answers.slope[part] * (score - answers.bias[part])
        found[part] = np.logaddexp(0, logit) - answers.heard[part] * logit
    return found


def most_probable(places: Floats, vectors: Floats, answers: Answers, precision: float, begin: Floats) -> Floats:
    """Each place where answers and a normal distribution around the place as it is make it most probable, by Newton's method.

    Args:
        places: [tastes, dims], the centres. vectors: [tracks, dims]. precision: one over the distribution's variance in every
            direction; infinity moves nothing. begin: [tastes, dims], where Newton's method begins.

    Returns:
        float32 [tastes, dims]; tastes without answers stay where they are.
    """
    import torch

    if not np.isfinite(precision):
        return places
    moved = places.copy()
    prior = torch.eye(places.shape[1]) * precision
    for tastes, plays, real in _blocks(answers.taste):
        x = torch.from_numpy(vectors[answers.track[plays]])
        weight = torch.from_numpy(real.astype(np.float32))
        heard, slope, bias = (torch.from_numpy(part[plays]) for part in (answers.heard, answers.slope, answers.bias))
        centre = torch.from_numpy(places[tastes])
        place = torch.from_numpy(begin[tastes])
        for _ in range(STEPS):
            p = torch.sigmoid(slope * (torch.bmm(x, place[:, :, None]).squeeze(2) - bias))
            downhill = torch.bmm((weight * slope * (p - heard))[:, None, :], x).squeeze(1) + precision * (place - centre)
            curvature = torch.bmm(x.transpose(1, 2), x * (weight * slope * slope * p * (1 - p))[:, :, None]) + prior
            step = torch.linalg.solve(curvature, downhill)
            place -= step * (LONGEST / step.norm(dim=1, keepdim=True).clamp_min(LONGEST))
        moved[tastes] = place.numpy()
    return moved


def _blocks(taste: Ints) -> Iterator[tuple[Ints, Ints, npt.NDArray[np.bool_]]]:
    """Tastes of about as many plays together: their numbers, the places of their plays [tastes, most], and which are real."""
    order = np.argsort(taste, kind="stable")
    tastes, starts, counts = np.unique(taste[order], return_index=True, return_counts=True)
    by_count = np.argsort(counts, kind="stable")
    begin = 0
    while begin < len(tastes):
        end = begin + 1
        while end < len(tastes) and (end + 1 - begin) * counts[by_count[end]] <= _PLAYS:
            end += 1
        chosen = by_count[begin:end]
        column = np.arange(counts[chosen[-1]])
        real = column < counts[chosen][:, None]
        yield tastes[chosen], order[np.where(real, starts[chosen][:, None] + column, 0)], real
        begin = end
