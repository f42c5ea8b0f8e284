"""The generated world: what it holds, that it is repeatable and safe to write, and the check of any world."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from recsys import catalog
from recsys.exceptions import InvalidInputError, Stopped, WorldError
from recsys.simulate import world
from recsys.simulate.listeners import load_listeners
from recsys.simulate.recommenders import DummyRecommender
from recsys.simulate.run import run_in_process

SIZES = {"tracks": 3000, "artists": 660, "users": 500}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "deep" / "world"
    world.generate(directory, **SIZES)
    return directory


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "world"))


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_sizes_and_formats(made: Path) -> None:
    world.validate(made)
    tracks = catalog.load_tracks(made)
    assert (tracks.size, len(tracks.artists)) == (3000, 660)
    assert catalog.load_users(made).tolist() == list(range(500))
    space = np.load(made / "tracks.npy")
    assert (space.shape, space.dtype) == ((3000, 64), np.float32)
    users = [json.loads(line) for line in (made / "users.json").read_text().splitlines()]
    assert list(users[0]) == ["user", "interests", "consume_bias", "consume_sharpness"]
    assert all(len(set(user["interests"])) == 3 for user in users)
    assert len(catalog.load_top_tracks(made) or []) == 100
    assert "{" not in "".join(tracks.artists + tracks.titles)
    listeners = load_listeners(None, made / "env.yml", first_tracks=False)
    assert listeners.budget.tolist() == [5] * 500


@pytest.mark.slow
def test_statistics_at_full_size_resemble_the_measured_ones(tmp_path: Path) -> None:
    world.generate(tmp_path / "full")
    space = np.load(tmp_path / "full" / "tracks.npy")
    norms = np.linalg.norm(space, axis=1)
    assert norms.mean() == pytest.approx(2.07, abs=0.06)
    assert norms.std() == pytest.approx(0.25, abs=0.02)
    variances = np.linalg.eigvalsh(np.cov(space.T))
    assert variances[-1] == pytest.approx(0.25, abs=0.03)
    assert variances[0] == pytest.approx(0.024, abs=0.006)
    sizes = np.bincount(catalog.load_tracks(tmp_path / "full").artist_of)
    assert np.percentile(sizes, [50, 75, 90, 95, 99]).tolist() == pytest.approx([1, 3, 11, 21, 41], abs=1)
    listeners = load_listeners(tmp_path / "full", first_tracks=False)
    interests = listeners.interests.reshape(-1, 3)
    dots = [(space[interests[:, a]] * space[interests[:, b]]).sum(axis=1) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert np.mean(dots) == pytest.approx(1.5, abs=0.25)
    assert np.std(dots) == pytest.approx(0.9, abs=0.2)
    times = np.bincount(interests.ravel())
    assert (times > 0).sum() == pytest.approx(16_337, rel=0.1)
    assert 30 <= times.max() <= 140, "a few tracks are popular; 68 was measured"
    assert listeners.bias.mean() == pytest.approx(5, abs=0.1)
    assert listeners.sharpness.mean() == pytest.approx(1.1, abs=0.02)
    assert (listeners.sharpness.min(), listeners.sharpness.max()) == pytest.approx((0.5, 2), abs=0.01)


def test_random_listening_is_as_long_as_measured(made: Path) -> None:
    result = run_in_process(load_listeners(made), DummyRecommender(3000, 1), episodes=5000, seed=1, progress=False)
    assert result.mean_time == pytest.approx(1.8, abs=0.3)
    assert result.mean_steps == pytest.approx(6.8, abs=0.3)


def test_the_same_again_and_another_seed(made: Path, tmp_path: Path) -> None:
    world.generate(tmp_path / "same", **SIZES)
    assert content(tmp_path / "same") == content(made)
    world.generate(tmp_path / "other", **SIZES, seed=1)
    changed = {name for name, data in content(tmp_path / "other").items() if data != content(made)[name]}
    assert changed == {"tracks.json", "tracks.npy", "users.json", "top_tracks.json", "world.json"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "same"], "no temporary directory is left"


def test_the_same_world_is_left_alone(copy: Path) -> None:
    before = (copy / "users.json").stat()
    world.generate(copy, **SIZES)
    world.generate(copy, **SIZES, force=True)
    assert (copy / "users.json").stat().st_mtime_ns == before.st_mtime_ns


def test_another_world_is_replaced_only_by_force(copy: Path) -> None:
    before = content(copy)
    with pytest.raises(WorldError, match=r"already holds other files \(.*'seed': 31337.*\); give another directory, or force"):
        world.generate(copy, **SIZES, seed=2)
    assert content(copy) == before
    load_listeners(copy)
    world.generate(copy, **SIZES, seed=2, force=True)
    assert content(copy) != before
    assert not (copy / ".cache").exists()


def test_an_edited_world_is_not_the_same(copy: Path) -> None:
    (copy / "users.json").write_text((copy / "users.json").read_text() + "\n")
    with pytest.raises(WorldError, match="already holds other files"):
        world.generate(copy, **SIZES)
    world.generate(copy, **SIZES, force=True)
    world.validate(copy)


def test_foreign_files_survive_even_force(copy: Path, tmp_path: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(WorldError, match=r"holds 'notes\.txt', which is no part of a generated world"):
        world.generate(copy, **SIZES, seed=2, force=True)
    assert (copy / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorldError, match="is not a directory"):
        world.generate(tmp_path / "file", **SIZES)


def test_a_signal_between_two_worlds_leaves_the_old_one(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, others, rename = content(copy), set(copy.parent.iterdir()), Path.rename

    def stopped(source: Path, target: Path) -> Path:
        moved = rename(source, target)
        if source == copy:
            raise Stopped(signal.SIGTERM)
        return moved

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(Stopped):
        world.generate(copy, **SIZES, seed=2, force=True)
    assert content(copy) == before
    assert set(copy.parent.iterdir()) == others


def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    world.generate(tmp_path / "empty", tracks=10, artists=3, users=2, dims=4)
    world.validate(tmp_path / "empty")


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_write_users", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.generate(tmp_path / "world", tracks=10, artists=3, users=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracks": 2}, "tracks of a world is 2; it must be from 3"),
        ({"artists": 0}, "artists of a world is 0"),
        ({"artists": 11}, "artists of a world is 11; it must be from 1 to 10"),
        ({"users": 0}, "users of a world is 0"),
        ({"dims": 1}, "dims of a world is 1"),
        ({"seed": -1}, "seed of a world is -1"),
    ],
)
def test_bad_sizes(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        world.generate(tmp_path / "w", **{"tracks": 10, "artists": 3, "users": 2} | changes)


@pytest.mark.parametrize(("tracks", "artists"), [(3, 1), (3, 3), (200, 1), (200, 200), (500, 400)])
def test_unusual_sizes(tmp_path: Path, tracks: int, artists: int) -> None:
    world.generate(tmp_path / "w", tracks=tracks, artists=artists, users=7, dims=3)
    world.validate(tmp_path / "w")
    assert len(catalog.load_tracks(tmp_path / "w").artists) == artists


def test_validate_names_what_does_not_fit(copy: Path) -> None:
    (copy / "top_tracks.json").write_text("[1, 3000]")
    with pytest.raises(WorldError, match=r"top_tracks\.json names track 3000, but there are 3000 tracks"):
        world.validate(copy)
    np.save(copy / "tracks.npy", np.zeros((7, 64), np.float32))
    with pytest.raises(WorldError, match="has 7 rows, but there are 3000 tracks"):
        world.validate(copy)
    (copy / "users.json").unlink()
    with pytest.raises(WorldError, match=r"users\.json cannot be read"):
        world.validate(copy)
