"""World files as the simulator reads them: defaults, overrides, env.yml, the table of first tracks, every message."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from recsys.exceptions import InvalidInputError, WorldError
from recsys.simulate import listeners as module
from recsys.simulate.listeners import load_listeners
from recsys.simulate.nearest import nearest_tracks
from tests.simulate.conftest import TRACKS, USERS


@pytest.fixture
def copy(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "world"))


def edit_user(world: Path, **changes: object) -> None:
    lines = (world / "users.json").read_text().splitlines()
    lines[4] = json.dumps({**json.loads(lines[4]), **changes})
    (world / "users.json").write_text("\n".join(lines))


def test_defaults_and_overrides(world: Path) -> None:
    them = load_listeners(world)
    assert len(them.users) == USERS
    assert them.users[1] == 4
    assert them.neighbours[[0, 1, 2]].tolist() == [2, TRACKS, 10]
    assert them.budget[[0, 1, 2]].tolist() == [1, 9, 5]
    assert them.gamma[[0, 1, 2]].tolist() == [0.5, 0.9, 1]
    assert (them.bias[3], them.sharpness[3]) == (5, 1)
    assert np.diff(them.starts)[:3].tolist() == [3, 1, 3]
    assert them.interests[them.starts[1]] == 4


def test_first_tracks_are_the_nearest(world: Path) -> None:
    them = load_listeners(world)
    space = them.embeddings.astype(float)
    for entry, track in enumerate(them.interests):
        order = np.lexsort((np.arange(TRACKS), -(space @ space[track])))
        assert them.first_tracks[them.first_row[entry]].tolist() == order.tolist()


@pytest.mark.parametrize("chunk", [1, 3000, 10**9])
def test_nearest_tracks_for_any_chunk_with_ties_by_id(chunk: int) -> None:
    rng = np.random.default_rng(0)
    space = rng.integers(-2, 3, (3000, 6)).astype(np.float32)
    queries = np.arange(0, 3000, 97)
    exact = space.astype(float) @ space[queries].T.astype(float)
    expected = [np.lexsort((np.arange(3000), -exact[:, i]))[:7].tolist() for i in range(len(queries))]
    assert nearest_tracks(space, queries, 7, chunk).tolist() == expected


def test_the_first_so_many_are_the_world_as_it_was(copy: Path) -> None:
    before = load_listeners(copy)
    with (copy / "tracks.json").open("a") as tracks, (copy / "users.json").open("a") as users:
        tracks.write(json.dumps({"artist": "Somebody New", "title": "x", "track": TRACKS}) + "\n")
        users.write(json.dumps({"user": 1000, "interests": [TRACKS]}) + "\n")
    space = np.load(copy / "tracks.npy")
    np.save(copy / "tracks.npy", np.concatenate([space, 9 * space[:1], space[:3]]))
    them = load_listeners(copy, listeners=USERS, tracks=TRACKS)
    for field in fields(them):
        if field.name != "catalogue":
            assert (getattr(them, field.name) == getattr(before, field.name)).all(), field.name
    assert (them.catalogue.titles, them.catalogue.artists) == (before.catalogue.titles, before.catalogue.artists)
    assert (them.catalogue.artist_of == before.catalogue.artist_of).all()
    assert (load_listeners(copy, listeners=USERS).first_tracks[:, :10] != before.first_tracks[:, :10]).any()
    assert len(load_listeners(copy).embeddings) == TRACKS + 1, "embeddings of tracks that are not there yet do not count"
    assert len(load_listeners(copy, listeners=2).users) == 2
    with pytest.raises(WorldError, match=f"line {USERS + 1}: interest {TRACKS} is not a track id from 0 to {TRACKS - 1}"):
        load_listeners(copy, tracks=TRACKS)
    with pytest.raises(InvalidInputError, match=r"tracks is 122, but .*tracks\.json has 121; 0 takes all"):
        load_listeners(copy, tracks=122)
    with pytest.raises(InvalidInputError, match=rf"listeners is {USERS + 2}, but .*users\.json has {USERS + 1}; 0 takes all"):
        load_listeners(copy, listeners=USERS + 2)


def test_the_table_is_kept_and_keyed_by_content(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_listeners(copy).first_tracks
    (kept,) = (copy / ".cache").iterdir()
    kept.write_bytes(b"broken")
    assert (load_listeners(copy).first_tracks == first).all()
    with monkeypatch.context() as patch:
        patch.setattr(module, "nearest_tracks", lambda *a: pytest.fail("not from the cache"))
        assert (load_listeners(copy).first_tracks == first).all()
    space = np.load(copy / "tracks.npy")
    np.save(copy / "tracks.npy", space[::-1])
    assert (load_listeners(copy).first_tracks != first).any()
    assert len(list((copy / ".cache").iterdir())) == 2


def test_a_world_that_cannot_be_written_is_cached_elsewhere(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(copy / ".cache", ignore_errors=True)
    (copy / ".cache").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_listeners(copy)
    assert len(list((tmp_path / "cache" / "nightshift").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy / ".cache"))
    load_listeners(copy)


def test_env_of_the_world_gives_defaults(copy: Path) -> None:
    (copy / "env.yml").write_text("user_catalog_config: {default_consume_bias: 7, default_session_budget: 3}")
    them = load_listeners(copy)
    assert (them.bias[3], them.budget[3], them.budget[0]) == (7, 3, 1)


def test_env_names_the_files(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.mkdir()
    shutil.copy(world / "users.json", config)
    shutil.copytree(world, tmp_path / "data")
    (config / "env.yml").write_text(
        "track_catalog_config: {track_meta_path: data/tracks.json, track_embeddings_path: data/tracks.npy}\n"
        "user_catalog_config: {user_catalog_path: users.json}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert len(load_listeners(None, config / "env.yml").users) == USERS
    (config / "env.yml").write_text("track_catalog_config: {track_meta_path: data/tracks.json}")
    with pytest.raises(WorldError, match=r"env\.yml does not name track_embeddings_path"):
        load_listeners(None, config / "env.yml")


def test_no_world() -> None:
    with pytest.raises(InvalidInputError, match="no world"):
        load_listeners(None)
    with pytest.raises(WorldError, match="'/nowhere' is not a directory"):
        load_listeners(Path("/nowhere"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interests": []}, r"users.json line 5: interests is \[\], not a list of at least one"),
        ({"interests": "abc"}, "interests is 'abc'"),
        ({"interests": [1, 120]}, "line 5: interest 120 is not a track id from 0 to 119"),
        ({"interests": [True]}, "interest True is not a track id"),
        ({"user": 1}, "line 5: user 1 appears a second time"),
        ({"user": 2**63}, "user is 9223372036854775808, not an integer from 0 to 9223372036854775807"),
        ({"consume_bias": "5"}, "consume_bias is '5'; it must be a finite number"),
        ({"consume_sharpness": None}, "consume_sharpness is None; it must be"),
        ({"session_budget": 0}, "session_budget is 0; it must be an integer from 1"),
        ({"interest_neighbours": 1.5}, "interest_neighbours is 1.5; it must be an integer from 1"),
        ({"artist_discount_gamma": 1.5}, "artist_discount_gamma is 1.5; it must be a number from 0 to 1"),
    ],
)
def test_bad_users(copy: Path, changes: dict, message: str) -> None:
    edit_user(copy, **changes)
    with pytest.raises(WorldError, match=message):
        load_listeners(copy)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((119, 8), np.float32), "has 119 rows, but there are 120 tracks"),
        (np.zeros(120, np.float32), r"holds float32 \[120\]; it must be one floating-point array"),
        (np.zeros((120, 8), int), r"holds int64 \[120, 8\]"),
        (np.where(np.eye(120, 8, k=-3), np.nan, 0), "row 3 has a value that is not a finite number"),
    ],
)
def test_bad_embeddings(copy: Path, array: np.ndarray, message: str) -> None:
    np.save(copy / "tracks.npy", array)
    with pytest.raises(WorldError, match=message):
        load_listeners(copy)


def test_embeddings_that_are_no_array(copy: Path) -> None:
    (copy / "tracks.npy").write_bytes(b"hello")
    with pytest.raises(WorldError, match=r"tracks\.npy is not a NumPy array file"):
        load_listeners(copy)
    (copy / "tracks.npy").unlink()
    with pytest.raises(WorldError, match=r"tracks\.npy cannot be read"):
        load_listeners(copy)
    with (copy / "tracks.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(WorldError, match="holds several arrays"):
        load_listeners(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("[]\n- 1", "is not YAML"),
        ("- 1", "track_catalog_config must be a mapping"),
        ("user_catalog_config: 5", "user_catalog_config must be a mapping"),
        ("track_catalog_config: {track_meta_path: 5}", "track_meta_path is 5, not a path"),
        ("user_catalog_config: {default_session_budget: 0}", "default_session_budget is 0; it must be an integer from 1"),
        ("remote_recommender_config: {host: x, port: 99999}", "needs a host name and a port, not 'x' and 99999"),
    ],
)
def test_bad_env(copy: Path, text: str, message: str) -> None:
    (copy / "env.yml").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        load_listeners(copy)
