"""The gate refuses candidates that would break lists, and says why; what it notes about the others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.night.gate import decide
from recsys.night.night import Night
from recsys.night.train import train
from recsys.schemas import Gate
from recsys.settings import Settings, load_settings
from tests.support.documents import inputs
from tests.support.listens import two_days, write_plays
from tests.support.night import DAY, USERS, tastes, write_interactions, write_world
from tests.support.open_world import write_catalogue

BAD = """
import numpy as np


class Base:
    def fit(self, history, *, seed, work):
        return {}

    def good(self, history):
        tracks = np.arange(history.shape[1])
        liked = np.stack([np.asarray(history[:, tracks % 10 == r].sum(axis=1)).ravel() for r in range(10)], axis=1)
        return (liked[:, tracks % 10] - tracks / 1e6).astype(np.float32)

    def save(self, directory):
        (directory / "bad.txt").write_text("x")

    def load(self, directory):
        pass


class NotNumbers(Base):
    def score(self, history):
        scores = self.good(history)
        scores[:, 3] = np.nan
        return scores


class TooFew(Base):
    def score(self, history):
        scores = self.good(history)
        scores[:, 30:] = -np.inf
        return scores


class TooMany(Base):
    def score(self, history):
        return np.hstack([self.good(history)] * 2)


class OwnLists(Base):
    def score(self, history):
        return self.good(history)

    def best(self, history, k):
        tracks = np.argsort(-self.good(history), axis=1, kind="stable")[:, :k]
        return self.spoilt(tracks), np.zeros(tracks.shape, np.float32)


class Twice(OwnLists):
    def spoilt(self, tracks):
        return np.hstack([tracks[:, :1], tracks[:, :-1]])


class Unknown(OwnLists):
    def spoilt(self, tracks):
        return np.hstack([tracks[:, :-1], np.full((len(tracks), 1), 10**6)])


class Short(OwnLists):
    def spoilt(self, tracks):
        return tracks[:, :49]
"""


def settings_for(tmp_path: Path, **more: Any) -> Settings:
    return load_settings(var=tmp_path / "var", world=write_world(tmp_path / "world"), **more)


@pytest.mark.drill("model", "its scores are broken", "the gate refuses and says how")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("NotNumbers", "not numbers"),
        ("TooFew", "only 30 tracks"),
        ("TooMany", "the catalogue has 400"),
        ("Twice", "hold a track twice"),
        ("Unknown", "not in the catalogue"),
        ("Short", "only 49 tracks"),
    ],
)
def test_broken_scores_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str) -> None:
    (tmp_path / "bad_models.py").write_text(BAD)
    monkeypatch.syspath_prepend(tmp_path)
    night = Night(DAY, settings_for(tmp_path, model=f"bad_models:{kind}"))
    write_interactions(night.store, tastes())
    train(night)
    gate = decide(night)
    assert not gate.passed
    assert message in " ".join(gate.reasons)
    assert Gate.read(night.store, DAY) == gate


@pytest.mark.drill("logs", "more malformed lines than the gate allows", "the gate refuses and says so")
def test_malformed_logs_are_refused(tmp_path: Path) -> None:
    night = Night(DAY, settings_for(tmp_path, model="popularity"))
    write_interactions(night.store, tastes())
    with night.store.stage(night.interactions) as staging:
        for old in night.settings.var.glob("storage/interactions/*/*.parquet"):
            (staging / old.name).write_bytes(old.read_bytes())
        inputs(DAY, counts={"lines": 100, "malformed": 9}).write(staging)
    train(night)
    gate = decide(night)
    assert not gate.passed
    assert "9.0% of the log's lines" in gate.reasons[0]


def test_what_the_gate_notes(tmp_path: Path) -> None:
    settings = load_settings(var=tmp_path / "var", world=write_world(tmp_path / "world", tracks=300, users=120), model="ease")
    night = Night(DAY, settings)
    write_plays(night.store, two_days())
    train(night)
    judged = decide(night).metrics
    assert judged is not None
    ease = judged.models["ease"]
    low, high = ease.ndcg_100_interval
    assert low < ease.ndcg_100 < high
    assert len(ease.ndcg_100_by_activity) == 3
    assert 0 < ease.artist_spread_100 <= 1
    off_policy = judged.off_policy
    assert off_policy is not None
    assert off_policy.reliable
    # The lists hold tracks of the user's group, which are heard to nine tenths before discounts: far above a random answer.
    assert off_policy.low is not None
    assert off_policy.low > 0.5
    assert np.isfinite(off_policy.effective)


def test_the_gate_foretells_the_night_and_decides_without(tmp_path: Path) -> None:
    settings = load_settings(var=tmp_path / "var", world=write_world(tmp_path / "world", tracks=300, users=120), model="ease")
    night = Night(DAY, settings)
    write_plays(night.store, two_days())
    train(night)
    gate = decide(night, lambda users: {user: list(range(50)) for user in users})
    assert gate.metrics is not None
    told = {row.against: row for row in gate.metrics.predicted}
    assert set(told) == {"control", "live"}
    # Lists of the user's own group against the same 50 tracks for everybody, of which every tenth is of the group.
    assert told["live"].ci_low_percent > 0
    assert told["live"].ci_low_percent < told["live"].effect_percent < told["live"].ci_high_percent
    assert "against live" in gate.reasons[-1]
    assert decide(night, lambda users: {user: list(range(50)) for user in users}) == gate, "the same night foretells the same"
    older = gate.model_dump(mode="json")
    del older["metrics"]["predicted"]
    assert Gate.model_validate_json(json.dumps(older)).metrics == gate.metrics.model_copy(update={"predicted": []})


def taste_night(tmp_path: Path, **more: Any) -> Night:
    """A night of EASE on tastes, trained."""
    night = Night(DAY, settings_for(tmp_path, model="ease", **more))
    write_interactions(night.store, tastes())
    train(night)
    return night


def test_the_least_number_of_users_is_a_setting(tmp_path: Path) -> None:
    night = taste_night(tmp_path, gate_users=250)
    users = decide(night).users
    assert "250 are needed to judge (RECSYS_GATE_USERS)" in decide(night).reasons[0]
    assert decide(Night(DAY, night.settings.model_copy(update={"gate_users": users}))).passed


def test_retired_tracks_are_neither_ranked_nor_held_out(tmp_path: Path) -> None:
    kept = decide(taste_night(tmp_path / "all")).metrics
    retired = range(0, 400, 3)
    night = Night(DAY, load_settings(var=tmp_path / "var", world=write_catalogue(tmp_path / "w", 400, retired), model="ease"))
    write_interactions(night.store, tastes())
    train(night)
    gate = decide(night, lambda users: {user: [*retired, 999, *range(1, 400, 3)][:200] for user in users})
    assert gate.passed, gate.reasons
    assert kept is not None
    assert gate.metrics is not None
    assert gate.metrics.live is not None
    # What may not be listed is not missed: without the rule a third of what was liked would count as not found.
    assert gate.metrics.models["ease"].ndcg_100 > 0.9 * kept.models["ease"].ndcg_100
    assert 0 < gate.metrics.models["ease"].coverage_100 <= 1
    assert gate.metrics.live.live_ndcg_50 > 0, "the live lists are judged by what they may still answer with"


def test_with_liked_left_out_only_what_is_new_counts_against_the_live_lists(tmp_path: Path) -> None:
    night = taste_night(tmp_path)
    old: dict[int, set[int]] = {user: {t for u, t, d in tastes() if u == user and d < DAY} for user in range(USERS)}
    again = {user: sorted({t for u, t, d in tastes() if u == user and d == DAY} & old[user]) or [0] for user in range(USERS)}
    keep = decide(night, lambda users: {user: again[user] for user in users}).metrics
    leave_out = Night(DAY, night.settings.model_copy(update={"liked": "leave_out"}))
    left = decide(leave_out, lambda users: {user: again[user] for user in users}).metrics
    assert keep is not None
    assert keep.live is not None
    assert left is not None
    assert left.live is not None
    assert keep.live.live_ndcg_50 > 0.05
    assert left.live.live_ndcg_50 < 0.01
    assert left.live.ndcg_50 > 0.2
    assert left.models == keep.models
