"""Listeners played in process: exploratory logs, paired sessions, and a policy that nobody beats."""

from datetime import date

import numpy as np
import pytest

from recsys.simulate.audience import Audience
from recsys.simulate.recommenders import DummyRecommender
from recsys.simulate.world import generate

DAYS = (date(2026, 1, 1), date(2026, 1, 2))


@pytest.fixture(scope="module")
def audience(tmp_path_factory: pytest.TempPathFactory) -> Audience:
    directory = tmp_path_factory.mktemp("worlds") / "world"
    generate(directory, tracks=200, artists=40, users=30, seed=3)
    return Audience(directory)


def test_exploratory_logs_hold_whole_sessions(audience: Audience) -> None:
    first, second = audience.explored(401, 5, DAYS)
    assert (first.day, second.day) == DAYS
    assert len(np.unique(first.session)) == 200
    assert len(np.unique(second.session)) == 201
    for part in (first, second):
        begins = part.step == 0
        assert (part.time[begins] == 100).all()
        assert np.isnan(part.propensity[begins]).all()
        assert (part.propensity[~begins] == 1 / (200 - part.step[~begins])).all()
        assert len(np.unique(np.stack([part.session, part.track]), axis=1).T) == len(part.track)


def test_the_same_sessions_are_played_whatever_answers(audience: Audience) -> None:
    one, other = (audience.play(DummyRecommender(200, seed), 300, 9) for seed in (1, 2))
    assert (one.user == other.user).all()
    assert (one.time != other.time).any()
    best = audience.play_oracle(300, 9)
    assert (best.user == one.user).all()
    assert best.time.mean() > 1.5 * one.time.mean()
    assert (audience.play_oracle(300, 9).time == best.time).all()
