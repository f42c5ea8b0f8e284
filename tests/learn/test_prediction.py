"""Predicted session times: against sessions that were played, and what is kept when one of the two estimates is wrong."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.learn.curves import Curves, expected, sigmoid, targeted
from recsys.learn.departures import Departures
from recsys.learn.plays import Plays, from_columns
from recsys.learn.prediction import Policy, Predictor, effect

USERS, TRACKS, ARTISTS, BUDGET = 300, 400, 100, 3
Ints = npt.NDArray[np.int64]


class Town:
    """Listeners of three kinds whose taste is known; an artist's tracks fit alike, and who is disappointed three times leaves."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.artist_of = (np.arange(TRACKS) % ARTISTS).astype(np.int32)
        self.middle = rng.choice([-5.0, -2.0, 0.5], USERS)
        of_artist = rng.standard_normal((USERS, ARTISTS))[:, self.artist_of]
        self.fit = np.sqrt(0.6) * of_artist + np.sqrt(0.4) * rng.standard_normal((USERS, TRACKS))

    def play(self, sessions: int, seed: int, lists: Ints | None = None) -> Plays:
        """Sessions with random tracks, or with the first unplayed of each user's list."""
        rng = np.random.default_rng(seed)
        row = np.sort(rng.integers(0, USERS, sessions))
        heard = np.full((sessions, 60), -1)
        heard[:, 0] = rng.integers(0, TRACKS, sessions)
        time, budget, lasted = np.full((sessions, 60), 100), np.full(sessions, BUDGET), np.full(sessions, 60)
        for step in range(1, 60):
            if lists is None:
                chance = rng.random((sessions, TRACKS), np.float32)
                chance[np.arange(sessions)[:, None], heard[:, :step]] = -1
                track = chance.argmax(axis=1)
            else:
                left = (lists[row][:, :, None] != heard[:, None, :step]).all(axis=2)
                track = lists[row, left.argmax(axis=1)]
            heard[:, step] = track
            share = sigmoid(self.middle[row] + self.fit[row, track])
            time[:, step] = np.rint(100 * share)
            budget -= rng.random(sessions) > share
            lasted[(budget <= 0) & (lasted == 60)] = step + 1
        there = np.arange(60) < lasted[:, None]
        step = np.broadcast_to(np.arange(60), there.shape)[there]
        propensity = np.where(step > 0, 1 / (TRACKS - step), np.nan)
        days = np.full(len(step), np.datetime64("2026-01-05"))
        rows = np.repeat(row, lasted)
        known = np.ones(TRACKS, bool)
        return from_columns(USERS, self.artist_of, known, step == 0, rows, heard[there], time[there], step, propensity, days)

    def lists(self, knows: float, seed: int) -> Ints:
        """Lists of 50 by a recommender that sees taste through noise."""
        noise = np.random.default_rng(seed).standard_normal(self.fit.shape)
        return np.argsort(-(knows * self.fit + noise), axis=1)[:, :50]


@pytest.fixture(scope="module")
def town() -> Town:
    return Town()


@pytest.fixture(scope="module")
def logs(town: Town) -> Plays:
    return town.play(5000, seed=1)


@pytest.fixture(scope="module")
def predictor(logs: Plays) -> Predictor:
    return Predictor(logs, np.ones(len(logs.row), bool), seed=1)


def mean_time(plays: Plays) -> float:
    return float(plays.time.sum() / 100 / (plays.step == 0).sum())


def test_effects_are_foretold(town: Town, predictor: Predictor) -> None:
    lists = {knows: town.lists(knows, seed=7) for knows in (0.0, 0.4, 1.0)}
    told = {knows: predictor.session(Policy(table)) for knows, table in lists.items()}
    played = {knows: mean_time(town.play(4000, seed=3, lists=table)) for knows, table in lists.items()}
    for knows in (0.4, 1.0):
        truth = played[knows] / played[0.0] - 1
        middle, low, high = effect(told[knows], told[0.0])
        assert low < truth < high
        assert abs(np.log((1 + middle) / (1 + truth))) < 0.2
        assert low > 0
    assert told[0.0].time < told[0.4].time < told[1.0].time
    assert told[0.0].time == pytest.approx(played[0.0], rel=0.1)


def test_the_same_seed_gives_the_same_prediction(town: Town, logs: Plays, predictor: Predictor) -> None:
    policy = Policy(town.lists(0.5, seed=7))
    again = Predictor(logs, np.ones(len(logs.row), bool), seed=1)
    assert again.session(policy).time == predictor.session(policy).time
    assert effect(predictor.session(policy), predictor.session(policy))[0] == 0


def test_what_artists_tell_is_told_by_the_logs(town: Town, logs: Plays, predictor: Predictor) -> None:
    assert predictor.kinship == pytest.approx(0.6, abs=0.2)
    strangers = replace(logs, artist_of=np.random.default_rng(0).permutation(town.artist_of))
    assert Predictor(strangers, np.ones(len(logs.row), bool), seed=1).kinship < 0.3


def test_policies_may_choose_by_the_last_track_and_at_random(town: Town, predictor: Predictor) -> None:
    near = np.stack([np.roll(np.arange(TRACKS), -shift) for shift in (ARTISTS, 2 * ARTISTS)], axis=1)
    anything = np.random.default_rng(2).integers(0, TRACKS, (TRACKS, 20))
    kin, random = (predictor.session(Policy(table, "previous", ordered=False)) for table in (near, anything))
    assert kin.answers < random.answers
    assert random.time == pytest.approx(predictor.session(Policy(town.lists(0.0, seed=3))).time, rel=0.15)


def curves_of(middles: npt.NDArray[np.float64], answers: int, seed: int) -> tuple[Curves, Ints]:
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(len(middles)), answers)
    time = np.rint(100 * sigmoid(middles[row] + rng.standard_normal(len(row)))).astype(np.int64)
    return Curves.of(row, time, len(middles)), row


def test_curves_tell_how_easily_each_user_is_pleased() -> None:
    middles = np.repeat([-3.0, 0.0, 2.0], 40)
    curves, _ = curves_of(middles, 40, seed=5)
    time, slope = expected(curves.table(np.arange(120)), np.ones(120))
    truth = [sigmoid(middle + 1 + np.random.default_rng(1).standard_normal(100_000)).mean() for middle in (-3.0, 0.0, 2.0)]
    assert time.reshape(3, 40).mean(axis=1) == pytest.approx(truth, abs=0.03)
    assert (slope > 0).all()


def test_whatever_the_curves_the_weighted_answers_are_met() -> None:
    rng = np.random.default_rng(4)
    curves, row = curves_of(rng.choice([-3.0, 0.0], 100), 20, seed=6)
    time, weight = rng.beta(2, 2, len(row)), rng.exponential(1.0, len(row))
    wrong = curves.table(rng.permutation(row))
    found = targeted(wrong, np.ones((len(row), 1)), time, weight, row, (1000.0,))
    assert weight @ found.mean == pytest.approx(weight @ time)


def test_with_right_curves_wrong_weights_do_no_harm() -> None:
    rng = np.random.default_rng(4)
    middles = rng.choice([-3.0, 0.0, 1.0], 200)
    curves, row = curves_of(middles, 40, seed=6)
    time = sigmoid(middles[row] + 0.8 + rng.standard_normal(len(row)))
    for weight in (np.ones(len(row)), np.where(middles[row] < 0, 9.0, 0.1), rng.exponential(1.0, len(row))):
        found = targeted(curves.table(row), np.ones((len(row), 1)), time, weight, row, (10.0,))
        assert found.shift[0] == pytest.approx(0.8, abs=0.1)


def test_the_covariance_is_that_of_users() -> None:
    curves, row = curves_of(np.zeros(100), 20, seed=6)
    shifts = np.random.default_rng(1).normal(0.5, 0.5, 100)
    noise = np.random.default_rng(2).standard_normal(len(row))
    found = targeted(curves.table(row), np.ones((len(row), 1)), sigmoid(shifts[row] + noise), np.ones(len(row)), row, (10.0,))
    alone = targeted(
        curves.table(row), np.ones((len(row), 1)), sigmoid(shifts[row] + noise), np.ones(len(row)), np.arange(len(row)), (10.0,)
    )
    assert found.covariance[0, 0] > 2 * alone.covariance[0, 0]
    assert abs(found.shift[0] - 0.5) < 4 * found.covariance[0, 0] ** 0.5


def test_sessions_last_as_long_as_their_times_let_them(town: Town, logs: Plays) -> None:
    departures = Departures.of(logs)
    played = town.play(4000, seed=3, lists=town.lists(1.0, seed=7))
    # A listener who is disappointed three times loses three tracks on average, whatever is played.
    for share in (0.05, 0.3, 0.6):
        expected_time = 1 + BUDGET * share / (1 - share)
        assert departures.session_time(np.full((1, 40), share))[0] == pytest.approx(expected_time, rel=0.1)
    assert mean_time(played) > 1.3 * mean_time(logs)


def test_propensities_out_of_range_are_named(logs: Plays) -> None:
    wrong = replace(logs, propensity=np.where(logs.step == 2, 1.5, logs.propensity))
    with pytest.raises(InvalidInputError, match=r"a logged propensity is 1\.5"):
        Predictor(wrong, np.ones(len(logs.row), bool), seed=1)


def test_without_random_answers_there_is_no_prediction(town: Town, logs: Plays) -> None:
    chosen = replace(logs, propensity=np.where(logs.step > 0, 1.0, np.nan))
    predictor = Predictor(chosen, np.ones(len(logs.row), bool), seed=1)
    assert predictor.answers == 0
    with pytest.raises(MissingDataError, match="0 answers were drawn at random"):
        predictor.session(Policy(town.lists(0.5, seed=7)))
