"""How long sessions would last with a policy that no listener has met, from random answers in the logs.

In go plays and policies; out come each one's mean session time, and the effect of one policy against another, with intervals.
A single step's reward does not tell it: who is pleased stays. So sessions are drawn from what the logs say:

1. Each listener has a curve from fit to time (:mod:`recsys.learn.curves`), and random tracks have fit 0 on average.
2. How much better a policy's tracks fit is told by the random answers that the policy might have given, too: to the same user (or
   after the same track), at whatever place of the list, the track itself or another one of its artist. That is importance
   weighting marginalised over the place and over an embedding of the action (Saito and Joachims 2022), with the logged
   propensities. The curves are shifted until they agree with the answers so weighted (a targeted, doubly robust estimate; van der
   Laan and Rubin 2006). Other tracks of the artist fit less, by as much as an artist's tracks correlate within a session if the
   policy knows the track itself, not at all if it knows the artist: the middle is taken, the width is part of the interval.
3. Listeners leave as they do in the logs (:mod:`recsys.learn.departures`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.learn.curves import MIDDLE, SPREAD, Curves, Targeted, expected, sigmoid, targeted
from recsys.learn.departures import Departures
from recsys.learn.plays import Plays

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: A random answer's propensity times the number of tracks, at most.
MOST_LIKELY = 2.0
#: Sessions that are drawn, and answers in each.
SESSIONS, STEPS = 4000, 40
#: Answers of the logs below which nothing is predicted, and those that tell about a policy, at most.
FEWEST, MOST = 30, 20_000
#: Standard deviations of shift and slope before any answer is seen, and the place at which the shift stands.
PRIORS, MIDPLACE = (2.0, 2.0, 0.2), 5.0
#: The fits of a policy's tracks correlate by so much within a session, before any pair is seen: mean, standard deviation.
COHERENCE = (0.4, 0.25)
#: So do those of an artist's tracks, likewise.
KINSHIP = (0.7, 0.12)
#: Standard deviation of a mean's logarithm that no sampling tells: what the model of sessions errs by, as measured
#: (``python -m benchmarks.off_policy``).
MODEL_ERROR = 0.05
_ROWS = 65_536
_95 = 1.959964


@dataclass(frozen=True)
class Policy:
    """Candidates of an answer, and how it is chosen.

    Attributes:
        table: int64 [keys, candidates], best first; -1 behind the last one.
        by: what the key is: the user's row, or the track played last.
        ordered: the first unplayed candidate answers; otherwise any unplayed one, equally likely.
    """

    table: Ints
    by: Literal["user", "previous"] = "user"
    ordered: bool = True

    def candidates(self, row: Ints, previous: Ints) -> Ints:
        """[n, candidates]."""
        return self.table[row if self.by == "user" else previous]


@dataclass(frozen=True)
class Session:
    """Mean session time with a policy: how it depends on what was estimated, and how many answers told it.

    Attributes:
        times: float64 [sessions drawn]. slopes: float64 [parameters], change of the mean's logarithm with each.
        covariance: float64 [parameters, parameters]. answers: random answers that the policy might have given.
    """

    times: Floats
    slopes: Floats
    covariance: Floats
    answers: int

    @property
    def time(self) -> float:
        """The mean."""
        return float(self.times.mean())

    @property
    def variance(self) -> float:
        """Of the mean's logarithm, by what was estimated."""
        return float(self.slopes @ self.covariance @ self.slopes)


class Predictor:
    """What logs say about listeners, common to all policies.

    Args:
        plays: whole sessions, of which those that ``judged`` names (bool [n]) tell about policies that have not seen them; all
            tell about listeners.

    Attributes:
        answers: how many judged answers were drawn at random. kinship: how the fits of an artist's tracks correlate within a
            session, 0 to 1.

    Raises:
        InvalidInputError: a propensity is not in (0, 1].
    """

    def __init__(self, plays: Plays, judged: npt.NDArray[np.bool_], seed: int) -> None:
        known = plays.propensity[~np.isnan(plays.propensity)]
        if not ((known > 0) & (known <= 1)).all():
            wrong = known[~((known > 0) & (known <= 1))][0]
            raise InvalidInputError(f"a logged propensity is {wrong}; it must be above 0 and at most 1: leave such plays out")
        drawn = (plays.step > 0) & ~plays.repeated & (plays.propensity * len(plays.artist_of) <= MOST_LIKELY)
        self._curves = Curves.of(plays.row[drawn], plays.time[drawn], plays.users)
        self._departures = Departures.of(plays)
        self.kinship, self._kinship_error = self._kinship(plays, drawn)
        told = np.flatnonzero(drawn & judged)
        self.answers = len(told)
        self._row, self._track, self._time, self._artist_of = (
            plays.row[told],
            plays.track[told],
            plays.time[told],
            plays.artist_of,
        )
        self._session = np.cumsum(plays.step == 0)[told]
        self._previous, self._weight = plays.track[told - 1], 1 / (plays.propensity[told] * len(plays.artist_of))
        rng = np.random.default_rng([seed, 5])
        starts = np.flatnonzero(judged & (plays.step == 0))
        chosen = starts[rng.integers(0, len(starts), SESSIONS)] if len(starts) else starts
        self._users, self._firsts = plays.row[chosen], plays.track[chosen]
        posterior = self._curves.posterior(self._users)
        point = (posterior.cumsum(axis=1) < rng.random((len(chosen), 1))).sum(axis=1).clip(0, len(MIDDLE) - 1)
        self._middle, self._spread = MIDDLE[point, None], SPREAD[point, None]
        self._common, self._own = rng.standard_normal((len(chosen), 1)), rng.standard_normal((len(chosen), STEPS))
        self._lot = rng.random(plays.users)
        self._uniform = rng.random((len(chosen), STEPS))

    def session(self, policy: Policy) -> Session:
        """Predict a policy.

        Raises:
            MissingDataError: too few answers of the logs were drawn at random.
        """
        if self.answers < FEWEST:
            raise MissingDataError(f"{self.answers} answers were drawn at random; a prediction needs {FEWEST}: explore more")
        shift, covariance, answers = self._fit(policy)
        places, repeated = self._play(policy)
        times = self._times(shift, places, repeated)
        slopes = np.zeros(len(shift))
        for number, step in enumerate(np.sqrt(np.diag(covariance))):
            moved = shift.copy()
            moved[number] += step / 2
            up = self._times(moved, places, repeated).mean()
            moved[number] -= step
            slopes[number] = np.log(up / self._times(moved, places, repeated).mean()) / step if step > 0 else 0.0
        return Session(times, slopes, covariance, answers)

    def _kinship(self, plays: Plays, drawn: npt.NDArray[np.bool_]) -> tuple[float, float]:
        """How the fits of an artist's tracks correlate within a session, 0 to 1, and the standard error of that."""
        session = np.cumsum(plays.step == 0)[drawn]
        artist, row, time = plays.artist_of[plays.track[drawn]], plays.row[drawn], plays.time[drawn]
        order = np.lexsort((artist, session))
        left, right = order[:-1], order[1:]
        pair = (session[left] == session[right]) & (artist[left] == artist[right])
        left, right = left[pair][:MOST], right[pair][:MOST]
        if len(left) < FEWEST:
            return KINSHIP
        usual, slope = expected(self._curves.table(row[left]), np.zeros(len(left)))
        told = self._curves.information(row[left])
        both = (time[left] / 100 - usual) * (time[right] / 100 - usual) * (told / np.maximum(slope, 1e-9)) ** 2
        total = float((told**2).sum()) + 1e-12
        found = float(both.sum()) / total
        spread = float(np.square(both - found * told**2).sum()) ** 0.5 / total + 1e-6
        # Few pairs tell most: their spread is told too small by half.
        weight = 1 / (2 * spread) ** 2
        precision = weight + 1 / KINSHIP[1] ** 2
        return float(np.clip((weight * found + KINSHIP[0] / KINSHIP[1] ** 2) / precision, 0, 1)), precision**-0.5

    def _matches(self, policy: Policy) -> tuple[Ints, Floats, Floats]:
        """Random answers that the policy might have given: which ones, what each one counts, and its place."""
        found, shares, places = [], [], []
        for start in range(0, len(self._row), _ROWS):
            part = slice(start, start + _ROWS)
            candidates = policy.candidates(self._row[part], self._previous[part])
            track = self._track[part, None]
            same = candidates == track
            kin = (self._artist_of[candidates] == self._artist_of[track]) & (candidates >= 0)
            share = np.where(same.any(axis=1), 1.0, np.where(kin.any(axis=1), min(self.kinship, 0.999), 0.0))
            here = np.flatnonzero(share > 0)
            found.append(start + here)
            shares.append(share[here])
            places.append(np.where(same.any(axis=1), same.argmax(axis=1), kin.argmax(axis=1))[here].astype(np.float64))
        which, share, place = (np.concatenate(parts) if parts else np.zeros(0) for parts in (found, shares, places))
        # Whole users are left out, so that what they heard in a session stays together.
        kept = self._lot[self._row[which.astype(np.int64)]] * len(which) < MOST
        return which[kept].astype(np.int64), share[kept], place[kept]

    def _fit(self, policy: Policy) -> tuple[Floats, Floats, int]:
        """Shift and slope by the logarithm of the place; their covariance, clustered by user; answers that told them."""
        from scipy.linalg import block_diag

        which, share, place = self._matches(policy)
        row, time, weight = self._row[which], self._time[which], self._weight[which]
        covariates = np.stack([share == 1, share < 1, share * _by_place(place, policy.ordered)], axis=1).astype(np.float64)
        found = targeted(self._curves.table(row, time), covariates, time / 100, weight, row, PRIORS)
        shift, covariance = self._combined(found)
        coherence, variance = self._coherence(which, share * found.slope, time / 100 - found.mean)
        return np.append(shift, coherence), block_diag(covariance, variance), len(which)

    def _combined(self, found: Targeted) -> tuple[Floats, Floats]:
        """The shift of a policy's own tracks, from these and from others of their artists, by inverse variance; and its slope."""
        # It knows the track itself, and others of the artist fit less; or it knows the artist, and they fit as well; or between.
        kinship = (1 + self.kinship) / 2
        error = np.hypot((1 - self.kinship) / np.sqrt(12), self._kinship_error / 2)
        own, kin = found.covariance[0, 0], found.covariance[1, 1] / kinship**2
        error = (found.shift[1] * error / kinship**2) ** 2
        both = found.covariance[0, 1] / kinship
        share = float(np.clip((kin + error - both) / max(own + kin + error - 2 * both, 1e-12), 0, 1))
        mixed = np.array([[share, (1 - share) / kinship, 0], [0, 0, 1]])
        covariance = mixed @ found.covariance @ mixed.T
        covariance[0, 0] += (1 - share) ** 2 * error
        return mixed @ found.shift, covariance

    def _coherence(self, which: Ints, slope: Floats, error: Floats) -> tuple[float, float]:
        """How the fits of the policy's tracks correlate within a session, and the variance of that, from pairs of such answers.

        Pairs of one artist are left out: they may stand for the same track of the list.
        """
        if not len(which):
            return COHERENCE[0], COHERENCE[1] ** 2
        _, session = np.unique(self._session[which], return_inverse=True)
        artist = session * (int(self._artist_of.max()) + 1) + self._artist_of[self._track[which]]
        _, kin = np.unique(artist, return_inverse=True)
        first = np.zeros(kin.max() + 1, np.int64)
        first[kin] = session
        above, below = (
            _pairs(value, session) - np.bincount(first, weights=_pairs(value, kin), minlength=session.max() + 1)
            for value in (slope * error, slope**2)
        )
        total = float(below.sum()) + 1e-12
        found = float(above.sum()) / total
        variance = float(np.square(above - found * below).sum()) / total**2 + 1e-4
        precision = 1 / variance + 1 / COHERENCE[1] ** 2
        return float(np.clip((found / variance + COHERENCE[0] / COHERENCE[1] ** 2) / precision, 0, 1)), 1 / precision

    def _play(self, policy: Policy) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Logarithms of the answers' places in each session drawn, [sessions, steps], and where nothing was left to answer."""
        heard = np.full((len(self._users), STEPS + 1), -1, np.int64)
        heard[:, 0] = self._firsts
        places, lacking = np.zeros((len(heard), STEPS)), np.zeros((len(heard), STEPS), bool)
        everyone = np.arange(len(heard))
        for step in range(STEPS):
            candidates = policy.candidates(self._users, heard[:, step])
            left = candidates >= 0
            for earlier in range(step + 1):
                left &= candidates != heard[:, earlier, None]
            if policy.ordered:
                place = left.argmax(axis=1)
            else:
                order = left.cumsum(axis=1)
                place = (order <= (self._uniform[:, step] * order[:, -1])[:, None]).sum(axis=1).clip(0, left.shape[1] - 1)
            lacking[:, step] = ~left.any(axis=1)
            heard[:, step + 1] = np.where(lacking[:, step], heard[:, step], candidates[everyone, place])
            places[:, step] = _by_place(place.astype(np.float64), policy.ordered)
        return places, lacking

    def _times(self, shift: Floats, places: Floats, lacking: npt.NDArray[np.bool_]) -> Floats:
        better, slope, coherence = shift
        coherence = min(max(coherence, 0.0), 1.0)
        fit = better + slope * places
        fit = np.where(lacking, 0.0, fit) + np.sqrt(coherence) * self._common + np.sqrt(1 - coherence) * self._own
        return self._departures.session_time(sigmoid(self._middle + self._spread * fit))


def effect(candidate: Session, other: Session) -> tuple[float, float, float]:
    """Relative effect of a policy on mean session time against another one, and its 95 % interval."""
    ratio = candidate.times / candidate.time - other.times / other.time
    variance = candidate.variance + other.variance + 2 * MODEL_ERROR**2 + float(ratio.var()) / len(ratio)
    middle, half = np.log(candidate.time / other.time), _95 * np.sqrt(variance)
    return float(np.expm1(middle)), float(np.expm1(middle - half)), float(np.expm1(middle + half))


def _by_place(place: Floats, ordered: bool) -> Floats:
    return np.log((1 + place) / (1 + MIDPLACE)) if ordered else np.zeros_like(place)


def _pairs(value: Floats, group: Ints) -> Floats:
    """The products of all pairs within each group, summed."""
    return np.asarray((np.bincount(group, weights=value) ** 2 - np.bincount(group, weights=value**2)) / 2)
