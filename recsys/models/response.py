"""How a listener responds to a track in a session that began with another one, learned from answered plays.

The model: logit(time without artist discount) = a_u (V_r . (V_f + D_f) - b_u), r the answer, f the session's first track, u the
user; the expected time is that share times gamma**k after k earlier plays of the artist. It is fitted by binary cross-entropy on
the time itself, so that what was rejected counts as much as what was finished. First tracks are the listener's own choice: a
second, contrastive objective makes V_g . (V_f + D_f) large where the same user began sessions with f and with g out of the same
taste (:mod:`recsys.models.firsts`). Optimised by Adagrad (Duchi, Hazan, Singer 2011), one step a batch, touched rows only.
"""

import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypedDict

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.learn.plays import Plays
from recsys.models import checkpoint
from recsys.models.firsts import FirstTracks, Tastes
from recsys.models.merge import merge
from recsys.models.refine import Answers, alternate
from recsys.models.session_candidates import Levels, build
from recsys.schemas import Figures
from recsys.versions.session_lists import WHOLE_TIME, SessionLists

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

CONFIG, LISTS, TASTES, SHARES = "response.json", "sessions.npz", "tastes.npy", "shares.npy"
#: A first track's contrast: shuffled tracks a pair, and the score at which the two are equally likely.
NEGATIVES, OFFSET = 2, 3.0
#: What a pair of first tracks counts, against an answered play.
WEIGHT = 0.3
CHECKPOINT = "response.pt"
#: A random answer's propensity times the number of tracks, at most; the share of such answers from which they teach alone.
MOST_LIKELY, ENOUGH_RANDOM = 2.0, 0.25
#: Bins of expected time in which second plays of an artist are compared with first ones.
BINS = 20


class _Config(TypedDict):
    dims: int
    epochs: int
    batch: int
    rate: float


class Response:
    """See the module; as a list model, a user's relevance is the mean expected time over the sessions that they begin.

    Args:
        dims: dimensions of the vectors. epochs: passes over all plays. batch: plays a step. rate: Adagrad's step.
    """

    uses_plays: ClassVar[bool] = True

    def __init__(self, dims: int = 32, *, epochs: int = 6, batch: int = 8192, rate: float = 0.06) -> None:
        self._config: _Config = {"dims": dims, "epochs": epochs, "batch": batch, "rate": rate}
        self.gamma = 1.0
        self.lists = SessionLists.empty()
        self.tastes, self.shares = np.zeros((0, 2), np.int32), np.zeros((0, 0), np.float32)

    @property
    def config(self) -> dict[str, object]:
        """The hyperparameters."""
        return dict(self._config)

    def fit(self, history: "csr_matrix", *, seed: int, work: Path, plays: Plays) -> Figures:
        """Learn from plays; resumes from a checkpoint in ``work`` of the same seed and data.

        Raises:
            MissingDataError: there is no answered play, or none of a track that is still available.
        """
        import torch

        answered = plays.chosen((plays.step > 0) & ~plays.repeated)
        if not len(answered.row):
            raise MissingDataError("there are no answered plays to train on; collect more traffic or widen the window")
        torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, which imports the compiler, too
        taught = _random_answers(answered)
        firsts = FirstTracks(plays)
        state = _State(plays.users, history.shape[1], self._config["dims"], seed)
        identity = (
            f"{seed} {plays.users} {history.shape} {len(answered.row)} {int(answered.time.sum())} {json.dumps(self._config)}"
        )
        state.resume(work / CHECKPOINT, identity)
        losses: list[float] = []
        while state.epoch < self._config["epochs"]:
            started = time.monotonic()
            losses.append(self._epoch(state, taught, firsts, np.random.default_rng([seed, state.epoch])))
            state.finish_epoch(work / CHECKPOINT, identity)
            text, seconds = "epoch %d of %d: loss %.5f, artist discount %.3f, %.1f s", time.monotonic() - started
            log.info(text, state.epoch, self._config["epochs"], losses[-1], state.gamma, seconds)
        self.gamma = state.gamma
        tastes = firsts.tastes(state.vectors, state.vectors + state.shifts)
        tastes, vectors = self._refined(state, tastes, plays, seed)
        known = np.zeros(history.shape[1], dtype=bool)
        known[answered.track] = known[firsts.tracks[firsts.counts > 0]] = True
        known &= plays.available
        if not known.any():
            raise MissingDataError("every track that was played has been retired; collect traffic of tracks that are available")
        begun = (np.nonzero(firsts.counts > 0)[0], firsts.tracks[firsts.counts > 0])
        heard = np.bincount(answered.row, minlength=plays.users) > 0
        levels = Levels.of(state.slopes.exp().double().numpy(), state.biases.double().numpy(), heard)
        self.lists, self.tastes, self.shares = build(vectors, tastes, known, levels, self.gamma, plays.artist_of, begun)
        return {"plays": len(answered.row), "gamma": round(self.gamma, 4), "tastes": len(tastes.row)}

    def _refined(self, state: "_State", tastes: Tastes, plays: Plays, seed: int) -> tuple[Tastes, npt.NDArray[np.float32]]:
        """Tastes and vectors of tracks after all answers, random or not; plays of an artist heard before say less, and are left
        out."""
        chosen = np.flatnonzero((plays.step > 0) & ~plays.repeated & (plays.earlier == 0))
        row, session = plays.row[chosen], np.cumsum(plays.step == 0)[chosen]
        pairs, place = np.unique(row * len(plays.artist_of) + plays.first[chosen], return_inverse=True)
        taste = tastes.of(*np.divmod(pairs, len(plays.artist_of)))[place]
        heard = (plays.time[chosen] / 100).astype(np.float32)
        slopes, biases = state.slopes.exp().numpy(), state.biases.numpy()
        answers = Answers(taste, plays.track[chosen], heard, slopes[row], biases[row])
        vectors = state.vectors.numpy()
        tastes, of = merge(tastes, vectors, answers, session, seed)
        answers = replace(answers, taste=of[answers.taste])
        aim, vectors = alternate(tastes.mean, vectors, answers, session, tastes.row, seed)
        return replace(tastes, aim=aim), vectors

    def score(self, history: "csr_matrix") -> npt.NDArray[np.float32]:
        """Expected time, summed over sessions that begin with a liked track; float32 [rows, tracks], 0 for candidates of none."""
        return np.asarray((history @ self.lists.matrix()).toarray(), dtype=np.float32)

    def expected(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Expected time of every track in sessions of some users: the mean over their tastes.

        Args:
            rows: of the training matrix, ascending.

        Returns:
            float32 [users, tracks]; 0 for users without tastes, and for tracks that are no candidate of any of theirs.
        """
        times = np.zeros((len(rows), len(self.lists.row_of)), np.float32)
        for line in np.flatnonzero(np.isin(self.tastes[:, 0], rows)).tolist():
            row, level, *numbers = self.tastes[line].tolist()
            place = np.searchsorted(rows, row)
            for number, share in zip(numbers, self.shares[line], strict=True):
                if number >= 0:
                    time = self.lists.times[level][self.lists.scores[number]] * (share / WHOLE_TIME)
                    times[place, self.lists.tracks[number]] += time
        return times

    def save(self, directory: Path) -> None:
        """Write candidate lists, the users' groups and the configuration."""
        (directory / LISTS).write_bytes(self.lists.to_bytes())
        np.save(directory / TASTES, self.tastes)
        np.save(directory / SHARES, self.shares)
        (directory / CONFIG).write_text(json.dumps({**self._config, "gamma": self.gamma}, sort_keys=True))

    def load(self, directory: Path) -> None:
        """Read what :meth:`save` wrote.

        Raises:
            CorruptDataError: the artist discount is not between 0 and 1.
        """
        config = json.loads((directory / CONFIG).read_text())
        self.gamma = config.pop("gamma")
        if not 0 <= self.gamma <= 1:
            raise CorruptDataError(f"{directory / CONFIG} has gamma {self.gamma}; it must be from 0 to 1: train again")
        self._config = config
        self.lists = SessionLists.from_bytes((directory / LISTS).read_bytes())
        self.tastes, self.shares = (np.load(directory / name, allow_pickle=False) for name in (TASTES, SHARES))

    def _epoch(self, state: "_State", plays: Plays, firsts: FirstTracks, rng: np.random.Generator) -> float:
        """One pass over the answered plays in random order, a share of the pairs of first tracks with every batch."""
        import torch

        order = rng.permutation(len(plays.row))
        row, track, first = (torch.from_numpy(column[order]) for column in (plays.row, plays.track, plays.first))
        time_ = torch.from_numpy((plays.time[order] / 100).astype(np.float32))
        earlier = torch.from_numpy(plays.earlier[order])
        pairs = firsts.pairs(state.vectors, state.vectors + state.shifts, rng)
        order = rng.permutation(len(pairs[0]))
        left, right = (torch.from_numpy(tracks[order]) for tracks in pairs)
        batches = -(-len(row) // self._config["batch"])
        loss, calibration = 0.0, np.zeros((4, BINS))
        for number in tqdm(range(batches), desc="response", unit="batch", disable=None, leave=False):
            part = slice(number * self._config["batch"], (number + 1) * self._config["batch"])
            figures = state.respond(row[part], track[part], first[part], time_[part], earlier[part], self._config["rate"])
            loss, calibration = loss + figures[0], calibration + figures[1]
            part = slice(number * len(left) // batches, (number + 1) * len(left) // batches)
            state.contrast(left[part], right[part], rng, self._config["rate"])
        state.gamma = _discount(calibration)
        return loss / len(row)


def _random_answers(answered: Plays) -> Plays:
    """The answers drawn at random, or all if those are few: what a policy chose was heard in full by satisfied listeners only."""
    drawn = answered.propensity * len(answered.artist_of) <= MOST_LIKELY
    return answered.chosen(drawn) if drawn.mean() >= ENOUGH_RANDOM else answered


def _discount(calibration: npt.NDArray[np.float64]) -> float:
    """The artist discount: time heard of second plays over that of first plays of which the model expected as much.

    Comparing with first plays, and not with the model itself, keeps its optimism about what it chose out of the estimate.
    """
    heard, expected, heard_again, expected_again = calibration
    right = np.divide(heard, expected, out=np.zeros(BINS), where=expected > 0)
    without = float((right * expected_again).sum())
    return min(1.0, float(heard_again[right > 0].sum()) / without) if without > 0 else 1.0


class _State:
    """Parameters and Adagrad's sums of squares."""

    NAMES = ("vectors", "shifts", "slopes", "biases")

    def __init__(self, users: int, tracks: int, dims: int, seed: int) -> None:
        import torch

        generator = torch.Generator().manual_seed(seed)
        self.vectors = torch.randn(tracks, dims, generator=generator) * 0.02
        self.shifts = torch.zeros(tracks, dims)
        self.slopes, self.biases = torch.zeros(users), torch.full((users,), 2.0)
        self.squares = {
            name: torch.full_like(getattr(self, name), 1e-6 if name in ("vectors", "shifts") else 1e-2) for name in self.NAMES
        }
        self.gamma, self.epoch = 1.0, 0

    def respond(
        self,
        row: "torch.Tensor",
        track: "torch.Tensor",
        first: "torch.Tensor",
        heard: "torch.Tensor",
        earlier: "torch.Tensor",
        rate: float,
    ) -> tuple[float, npt.NDArray[np.float64]]:
        """One step on answered plays; returns the summed loss and, by bins of expected time without discount, float64 [4, bins]:
        time heard and expected of first plays of an artist, and the same of second plays.
        """
        import torch

        x, w = self.vectors[track], self.vectors[first] + self.shifts[first]
        slope = self.slopes[row].exp()
        logit = slope * ((x * w).sum(1) - self.biases[row])
        taste = torch.sigmoid(logit)
        expected = taste * self.gamma ** earlier.float()
        # Derivative of the cross-entropy in the logit; without discount it is taste - heard.
        slack = (1 - expected).clamp_min(1e-6)
        d = (expected - heard) * (1 - taste) / slack
        step = (d * slope)[:, None]
        at_first = step * x
        self._descend("vectors", track, step * w, rate)
        self._descend("vectors", first, at_first, rate)
        self._descend("shifts", first, at_first, rate)
        self._descend("slopes", row, d * logit, rate)
        self._descend("biases", row, -d * slope, rate)
        loss = -(heard * expected.clamp_min(1e-7).log() + (1 - heard) * slack.log()).sum()
        place = (taste * BINS).long().clamp_max(BINS - 1)
        sums = [
            torch.bincount(place[chosen], weights=value[chosen].double(), minlength=BINS).numpy()
            for chosen in (earlier == 0, earlier == 1)
            for value in (heard, taste)
        ]
        return float(loss), np.stack(sums)

    def contrast(self, left: "torch.Tensor", right: "torch.Tensor", rng: np.random.Generator, rate: float) -> None:
        """One step on pairs of first tracks of one taste, against the same tracks shuffled."""
        import torch

        if not len(left):
            return
        w = self.vectors[left] + self.shifts[left]
        for number in range(1 + NEGATIVES):
            other = right if number == 0 else right[torch.from_numpy(rng.permutation(len(right)))]
            x = self.vectors[other]
            step = WEIGHT * (torch.sigmoid((x * w).sum(1) - OFFSET) - float(number == 0))[:, None]
            self._descend("vectors", other, step * w, rate)
            self._descend("vectors", left, step * x, rate)
            self._descend("shifts", left, step * x, rate)

    def _descend(self, name: str, index: "torch.Tensor", gradient: "torch.Tensor", rate: float) -> None:
        parameter, squares = getattr(self, name), self.squares[name]
        squares.index_add_(0, index, gradient * gradient)
        parameter.index_add_(0, index, gradient * squares[index].rsqrt(), alpha=-rate)

    def resume(self, path: Path, identity: str) -> None:
        saved = checkpoint.read(path, identity)
        if saved is None:
            return
        for name in self.NAMES:
            setattr(self, name, saved[name])
        self.squares, self.gamma, self.epoch = saved["squares"], saved["gamma"], saved["epoch"]
        log.info("resuming after epoch %d", self.epoch)

    def finish_epoch(self, path: Path, identity: str) -> None:
        self.epoch += 1
        parameters = {name: getattr(self, name) for name in self.NAMES}
        checkpoint.write(path, identity, {"squares": self.squares, "gamma": self.gamma, "epoch": self.epoch, **parameters})
