"""Train, gate and recommend on a world that has no embeddings, no interests and no simulator."""

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.night.gate import decide
from recsys.night.recommend import recommend
from recsys.night.train import train
from recsys.settings import Settings, load_settings
from recsys.storage.store import Storage
from tests.support.night import DAY, GROUPS, TRACKS, USERS, tastes, write_interactions, write_world


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(var=tmp_path / "var", world=write_world(tmp_path / "world"))


@pytest.fixture
def store(settings: Settings) -> Storage:
    return Storage(settings.storage_url)


def lists_of(store: Storage) -> dict[int, list[int]]:
    text = (store.local(f"recommendations/date={DAY}") / "recommendations.json").read_text()
    return {row["user"]: row["tracks"] for row in map(json.loads, text.splitlines())}


def test_the_three_steps_without_the_simulators_files(store: Storage, settings: Settings) -> None:
    assert not (settings.world / "tracks.npy").exists()
    assert "interests" not in (settings.world / "users.json").read_text()
    write_interactions(store, tastes())
    train(store, DAY, settings.world, settings)
    outcome = decide(store, DAY, settings.world, settings)
    assert outcome["passed"], outcome["reasons"]
    assert outcome["metrics"]["models"]["dae"]["ndcg_100"] > outcome["metrics"]["models"]["popularity"]["ndcg_100"]
    recommend(store, DAY, settings.world, settings)
    lists = lists_of(store)
    assert sorted(lists) == list(range(USERS))
    assert all(len(set(tracks)) == 50 for tracks in lists.values())
    share = np.mean([[t % GROUPS == user % GROUPS for t in tracks[:20]] for user, tracks in lists.items()])
    assert share > 0.8
    neighbours = np.load(store.local(f"recommendations/date={DAY}") / "neighbours.npy")
    assert neighbours.shape == (TRACKS, 20)
    assert len(store.read_json(f"recommendations/date={DAY}", "top_tracks.json")) == 100


def test_training_again_changes_nothing_and_is_skipped(store: Storage, settings: Settings) -> None:
    write_interactions(store, tastes())
    first = train(store, DAY, settings.world, settings)
    manifest = store.manifest(f"models/date={DAY}")
    assert train(store, DAY, settings.world, settings) == first
    assert store.manifest(f"models/date={DAY}") == manifest
    store.remove(f"models/date={DAY}")
    train(store, DAY, settings.world, settings)
    again = {f.name: f.sha256 for f in store.manifest(f"models/date={DAY}").files if f.name != "card.json"}
    assert again == {f.name: f.sha256 for f in manifest.files if f.name != "card.json"}


def test_users_without_history_get_the_top_tracks(store: Storage, settings: Settings) -> None:
    write_interactions(store, [p for p in tastes() if p[0] != 7])
    train(store, DAY, settings.world, settings)
    counts = recommend(store, DAY, settings.world, settings)
    assert counts["users_without_history"] == 1
    assert lists_of(store)[7] == store.read_json(f"recommendations/date={DAY}", "top_tracks.json")[:50]


def test_the_gate_refuses_what_is_no_better_than_popularity(store: Storage, settings: Settings) -> None:
    rng = np.random.default_rng(0)
    noise = sorted(
        {(u, int(t), DAY - timedelta(days=d)) for u in range(USERS) for d in range(3) for t in rng.integers(0, TRACKS, 4)}
    )
    write_interactions(store, noise)
    train(store, DAY, settings.world, settings)
    outcome = decide(store, DAY, settings.world, settings)
    assert not outcome["passed"]
    assert "not surely better" in outcome["reasons"][0]
    assert store.read_json(f"gates/date={DAY}", "gate.json") == json.loads(json.dumps(outcome))


def test_the_gate_refuses_too_little_data(store: Storage, settings: Settings) -> None:
    write_interactions(store, [p for p in tastes() if p[2] < DAY or p[0] < 20])
    train(store, DAY, settings.world, settings)
    outcome = decide(store, DAY, settings.world, settings)
    assert not outcome["passed"]
    assert "50 are needed" in outcome["reasons"][0]


def test_the_gate_compares_with_what_is_live(store: Storage, settings: Settings) -> None:
    write_interactions(store, tastes())
    train(store, DAY, settings.world, settings)
    live = DAY - timedelta(days=1)
    present = {u: sorted({t for v, t, d in tastes() if v == u and d == DAY}) for u in range(USERS)}
    with store.stage(f"recommendations/date={live}") as staging:
        perfect = [{"user": u, "tracks": (t + [x for x in range(TRACKS) if x not in t])[:50]} for u, t in present.items()]
        (staging / "recommendations.json").write_text("".join(json.dumps(row) + "\n" for row in perfect))
    outcome = decide(store, DAY, settings.world, settings, live)
    assert not outcome["passed"]
    assert "live lists" in outcome["reasons"][0]


@pytest.mark.parametrize(
    ("positive", "weight", "message"),
    [((3, TRACKS, DAY), 1.0, f"track {TRACKS}"), ((USERS, 3, DAY), 1.0, f"user {USERS}"), ((3, 3, DAY), np.nan, "not finite")],
)
def test_what_is_not_of_this_world_is_named(
    store: Storage, settings: Settings, positive: tuple[int, int, date], weight: float, message: str
) -> None:
    write_interactions(store, [positive], weight)
    with pytest.raises(CorruptDataError, match=message):
        train(store, DAY, settings.world, settings)


def test_nothing_before_the_date_is_an_error(store: Storage, settings: Settings) -> None:
    write_interactions(store, [(1, 1, DAY)])
    with pytest.raises(MissingDataError, match="before 2026-01-05"):
        train(store, DAY, settings.world, settings)
