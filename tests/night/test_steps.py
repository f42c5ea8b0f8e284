"""Train, gate and recommend on a world that has no embeddings, no interests and no simulator."""

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.night.gate import decide
from recsys.night.night import Night
from recsys.night.recommend import recommend
from recsys.night.train import train
from recsys.schemas import Gate
from recsys.settings import load_settings
from recsys.versions.content import LISTS, lists_in
from tests.support.night import DAY, GROUPS, TRACKS, USERS, tastes, write_interactions, write_world

pytestmark = pytest.mark.slow


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(DAY, load_settings(var=tmp_path / "var", world=write_world(tmp_path / "world")))


def lists_of(night: Night) -> dict[int, list[int]]:
    return dict(lists_in(night.store.local(night.recommendations) / LISTS))


def top_of(night: Night) -> list[int]:
    return list(json.loads(night.store.read_bytes(night.recommendations, "top_tracks.json")))


def test_the_three_steps_without_the_simulators_files(night: Night) -> None:
    assert not (night.world / "tracks.npy").exists()
    assert "interests" not in (night.world / "users.json").read_text()
    write_interactions(night.store, tastes())
    train(night)
    gate = decide(night)
    assert gate.passed, gate.reasons
    assert gate.metrics is not None
    assert gate.metrics.models["dae"].ndcg_100 > gate.metrics.models["popularity"].ndcg_100
    recommend(night)
    lists = lists_of(night)
    assert sorted(lists) == list(range(USERS))
    assert all(len(set(tracks)) == 50 for tracks in lists.values())
    share = np.mean([[t % GROUPS == user % GROUPS for t in tracks[:20]] for user, tracks in lists.items()])
    assert share > 0.8
    neighbours = np.load(night.store.local(night.recommendations) / "neighbours.npy")
    assert neighbours.shape == (TRACKS, 20)
    assert len(top_of(night)) == 100


def test_training_again_changes_nothing_and_is_skipped(night: Night) -> None:
    write_interactions(night.store, tastes())
    first = train(night)
    manifest = night.store.manifest(night.models)
    assert train(night) == first
    assert night.store.manifest(night.models) == manifest
    night.store.remove(night.models)
    train(night)
    again = {f.name: f.sha256 for f in night.store.manifest(night.models).files if f.name != "card.json"}
    assert again == {f.name: f.sha256 for f in manifest.files if f.name != "card.json"}


def test_users_without_history_get_the_top_tracks(night: Night) -> None:
    write_interactions(night.store, [p for p in tastes() if p[0] != 7])
    train(night)
    counts = recommend(night)
    assert counts["users_without_history"] == 1
    assert lists_of(night)[7] == top_of(night)[:50]


def test_the_gate_refuses_what_is_no_better_than_popularity(night: Night) -> None:
    rng = np.random.default_rng(0)
    noise = sorted(
        {(u, int(t), DAY - timedelta(days=d)) for u in range(USERS) for d in range(3) for t in rng.integers(0, TRACKS, 4)}
    )
    write_interactions(night.store, noise)
    train(night)
    gate = decide(night)
    assert not gate.passed
    assert "not surely better" in gate.reasons[0]
    assert Gate.read(night.store, DAY) == gate


def test_the_gate_refuses_too_little_data(night: Night) -> None:
    write_interactions(night.store, [p for p in tastes() if p[2] < DAY or p[0] < 15])
    train(night)
    gate = decide(night)
    assert not gate.passed
    assert "20 are needed to judge (RECSYS_GATE_USERS)" in gate.reasons[0]


def test_the_gate_compares_with_what_is_live(night: Night) -> None:
    write_interactions(night.store, tastes())
    train(night)
    present = {u: sorted({t for v, t, d in tastes() if v == u and d == DAY}) for u in range(USERS)}
    perfect = {u: (t + [x for x in range(TRACKS) if x not in t])[:50] for u, t in present.items()}
    gate = decide(night, lambda users: {user: perfect[user] for user in users})
    assert not gate.passed
    assert "live lists" in gate.reasons[0]


@pytest.mark.parametrize(
    ("positive", "weight", "message"),
    [
        ((3, TRACKS, DAY), 1.0, f"track {TRACKS}"),
        ((USERS, 3, DAY), 1.0, f"user {USERS}, who has no session"),
        ((3, 3, DAY), np.nan, "not finite"),
    ],
)
def test_what_does_not_fit_together_is_named(night: Night, positive: tuple[int, int, date], weight: float, message: str) -> None:
    write_interactions(night.store, [positive], weight)
    with pytest.raises(CorruptDataError, match=message):
        train(night)


def test_nothing_before_the_date_is_an_error(night: Night) -> None:
    write_interactions(night.store, [(1, 1, DAY)])
    with pytest.raises(MissingDataError, match="before 2026-01-05"):
        train(night)


def test_who_has_liked_all_that_is_left_gets_the_top_tracks(night: Night) -> None:
    night = Night(DAY, night.settings.model_copy(update={"liked": "leave_out", "model": "popularity"}))
    write_interactions(night.store, sorted({*tastes(), *((7, track, DAY) for track in range(TRACKS))}))
    train(night)
    recommend(night)
    lists = lists_of(night)
    assert lists[7] == top_of(night)[:50]
    assert not {(8, track) for track in lists[8]} & {(user, track) for user, track, _ in tastes()}
    write_interactions(night.store, sorted({*tastes(), *((7, track, DAY) for track in range(3, TRACKS))}))
    recommend(night)
    assert sorted(lists_of(night)[7]) == [0, 1, 2]
