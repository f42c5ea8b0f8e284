"""A world that grows: nobody gets another number, what is new is like the rest, growth that was killed, what is refused."""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from recsys import catalog
from recsys.exceptions import InvalidInputError, WorldError
from recsys.simulate import growth as module
from recsys.simulate import world
from recsys.simulate.growth import Growth, grow
from recsys.simulate.growth_record import WorldRecord, partial_of, replace_file
from recsys.simulate.listeners import Listeners, load_listeners
from recsys.simulate.recommenders import DummyRecommender
from recsys.simulate.run import run_in_process
from tests.simulate.conftest import Recorder

SIZES = {"tracks": 2000, "artists": 440, "users": 300}
BY = Growth(users=60, tracks=80, retire=7)
DAY = date(2026, 1, 5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "world"
    world.generate(directory, **SIZES)
    return directory


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "world"))


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def played(them: Listeners) -> list[tuple[object, ...]]:
    recorder = Recorder(lambda user, track, time, episode, step: (user * 31 + track + step) % them.catalogue.size)
    run_in_process(them, recorder, episodes=400, seed=3, progress=False)
    return recorder.sorted


def test_what_is_there_stays_and_the_rest_is_appended(made: Path, copy: Path) -> None:
    step = grow(copy, BY, seed=1)
    assert (step.users_before, step.users_after, step.tracks_before, step.tracks_after) == (300, 360, 2000, 2080)
    world.validate(copy)
    for name, count in (("users.json", 360), ("tracks.json", 2080)):
        before, after = lines(made / name), lines(copy / name)
        assert len(after) == count
        changed = [i for i, line in enumerate(before) if after[i] != line]
        assert changed == (step.retired if name == "tracks.json" else [])
    space = np.load(copy / "tracks.npy")
    assert (space[:2000] == np.load(made / "tracks.npy")).all()
    assert (space.shape, space.dtype) == ((2080, 64), np.float32)
    assert catalog.load_users(copy).tolist() == list(range(360))
    catalogue = catalog.load_tracks(copy)
    catalogue.check_grown_from(catalog.load_tracks(made), copy)
    assert sorted(catalogue.retired) == step.retired
    assert len(step.retired) == 7
    artists = catalogue.artist_of[2000:]
    assert 0 < (artists < 440).sum() < 80, "some are by artists who were there, some by others"
    assert len(set(catalogue.artists)) == len(catalogue.artists)
    users = [json.loads(line) for line in lines(copy / "users.json")]
    assert list(users[-1]) == ["user", "interests", "consume_bias", "consume_sharpness"]
    assert all(len(set(user["interests"])) == 3 for user in users)
    interests = {track for user in users[300:] for track in user["interests"]}
    assert any(track >= 2000 for track in interests)
    assert interests.isdisjoint(step.retired), "nobody new comes for what is not there any more"


def test_the_same_seed_grows_the_same_world_and_each_step_is_another(copy: Path, made: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made, tmp_path / "other"))
    for directory in (copy, other):
        grow(directory, BY, seed=1)
        grow(directory, BY, seed=1)
    assert content(copy) == content(other)
    users = lines(copy / "users.json")
    assert len(users) == 420
    assert [json.loads(line)["interests"] for line in users[300:360]] != [json.loads(line)["interests"] for line in users[360:]]
    titles = [json.loads(line)["title"] for line in lines(copy / "tracks.json")]
    assert titles[2000:2080] != titles[2080:]
    third = Path(shutil.copytree(made, tmp_path / "third"))
    grow(third, BY, seed=2)
    assert lines(third / "users.json")[300:] != users[300:360]


def test_what_is_new_lies_in_the_space_as_the_rest_does(tmp_path: Path) -> None:
    world.generate(tmp_path / "w", tracks=6000, artists=1300, users=2000)
    before = np.load(tmp_path / "w" / "tracks.npy")
    grow(tmp_path / "w", Growth(users=2000, tracks=6000), seed=5)
    space, artist_of = np.load(tmp_path / "w" / "tracks.npy"), catalog.load_tracks(tmp_path / "w").artist_of
    new = space[6000:]
    assert np.abs(new.mean(axis=0) - before.mean(axis=0)).max() < 0.06
    assert np.linalg.norm(new, axis=1).mean() == pytest.approx(np.linalg.norm(before, axis=1).mean(), rel=0.02)
    # Variances along the directions of the world as it was.
    _, directions = np.linalg.eigh(np.cov(before.T))
    was, now = ((part - before.mean(axis=0)) @ directions for part in (before, new))
    assert now.var(axis=0) == pytest.approx(was.var(axis=0), rel=0.25)
    sizes = np.bincount(artist_of[6000:])
    artists = len(np.unique(artist_of[6000:][artist_of[6000:] >= 1300])) / 6000
    assert artists == pytest.approx(1300 / 6000, abs=0.02)
    assert sizes.max() > 40, "who has many gets more"
    centred = space - before.mean(axis=0)
    normal = np.einsum("ij,ij->i", centred, centred).mean()

    def alike(chosen: np.ndarray) -> float:
        """Mean correlation of pairs of tracks of one artist."""
        found = []
        for artist in np.unique(artist_of[chosen]):
            mine = centred[chosen[artist_of[chosen] == artist]]
            if 1 < len(mine) < 30:
                gram = mine @ mine.T
                found.append((gram.sum() - np.trace(gram)) / (len(mine) * (len(mine) - 1)) / normal)
        return float(np.mean(found))

    assert alike(np.arange(6000, 12_000)) == pytest.approx(alike(np.arange(6000)), abs=0.06)
    them = load_listeners(tmp_path / "w", first_tracks=False)
    interests = them.interests.reshape(-1, 3)
    dots = [(space[part[:, 0]] * space[part[:, 1]]).sum(axis=1).mean() for part in (interests[:2000], interests[2000:])]
    assert dots[1] == pytest.approx(dots[0], abs=0.2)
    assert them.bias[2000:].mean() == pytest.approx(them.bias[:2000].mean(), abs=0.4)
    times = [run_in_process(load_listeners(tmp_path / "w", listeners=n), DummyRecommender(12_000, 1), episodes=2000, seed=1,
                            progress=False).mean_time for n in (2000, 4000)]  # fmt: skip
    assert times[1] == pytest.approx(times[0], abs=0.4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_world_in_the_original_s_formats(tmp_path: Path, dtype: type) -> None:
    rng = np.random.default_rng(0)
    directory = tmp_path / "w"
    directory.mkdir()
    rows = [{"artist": f"A{t % 7}", "title": "Ünder", "track": t, "id": f"own-{t}"} for t in rng.permutation(40).tolist()]
    (directory / "tracks.json").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    np.save(directory / "tracks.npy", np.asfortranarray(rng.normal(size=(40, 5)).astype(dtype)))
    users = [{"user": 5 * u + 2, "interests": [u % 40, (u + 9) % 40][: 1 + u % 2]} for u in range(12)]
    users[3] |= {"session_budget": 9}
    (directory / "users.json").write_text("\n".join(json.dumps(user) for user in users) + "\n\n")
    before = load_listeners(directory)
    old = lines(directory / "tracks.json")
    step = grow(directory, Growth(users=200, tracks=30, retire=3), seed=1)
    world.validate(directory)
    assert np.load(directory / "tracks.npy").dtype == dtype
    after = lines(directory / "tracks.json")
    assert [line for line in after[:40] if b"available" not in line] == [
        line for line in old if json.loads(line)["track"] not in step.retired
    ]
    assert {json.loads(line)["track"] for line in after[:40] if b"available" in line} == set(step.retired)
    assert "id" not in json.loads(after[-1])
    them = load_listeners(directory)
    assert them.users[12:].tolist() == list(range(58, 258))
    assert set(np.diff(them.starts)[12:].tolist()) == {1, 2}, "as many interests as others have"
    assert {9, 5} == set(them.budget[12:].tolist())
    again = load_listeners(directory, listeners=12, tracks=40)
    assert played(again) == played(before)
    record = json.loads((directory / "world.json").read_text())
    assert list(record) == ["growth"]


def test_the_first_so_many_play_as_before(made: Path, copy: Path) -> None:
    before = played(load_listeners(made))
    for seed in (1, 2):
        grow(copy, BY, seed=seed)
    first = load_listeners(copy, listeners=300, tracks=2000)
    assert played(first) == before
    assert first.catalogue.artists == catalog.load_tracks(made).artists
    assert played(load_listeners(copy)) != before
    between = load_listeners(copy, listeners=360, tracks=2080)
    assert len(between.users) == 360
    assert between.catalogue.titles == catalog.load_tracks(copy).titles[:2080]


@pytest.mark.drill("world", "killed while it grows", "readers find a world that fits together; the next growth finishes it")
@pytest.mark.parametrize("moment", range(5), ids=["at once", "announced", "embeddings", "tracks", "users"])
def test_readers_and_the_next_growth_survive_a_kill_at_any_moment(made: Path, tmp_path: Path, moment: int) -> None:
    whole, killed = (Path(shutil.copytree(made, tmp_path / name)) for name in ("whole", "killed"))
    grow(whole, BY, seed=1)
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(killed, moment))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    world.validate(killed)
    load_listeners(killed)
    assert played(load_listeners(killed, listeners=300, tracks=2000)) == played(load_listeners(made))
    grow(killed, BY, seed=1)
    assert content(killed) == content(whole)


def _killed(directory: Path, moment: int) -> None:
    """Let the world grow; the process is killed when so many files have been renamed."""
    renames, rename = itertools.count(), Path.rename

    def counted(source: Path, target: Path) -> Path:
        if next(renames) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(source, target)

    Path.rename = counted  # type: ignore[method-assign, assignment]
    grow(directory, BY, seed=1)


def test_what_is_unfinished_is_finished_before_something_else(copy: Path, made: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(made, tmp_path / "other"))
    for directory in (copy, other):
        with pytest.MonkeyPatch.context() as patch:
            if directory == copy:
                patch.setattr(module, "_write_users", lambda *a: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    grow(directory, BY, seed=1)
            else:
                grow(directory, BY, seed=1)
    assert WorldRecord.read(copy).pending is not None
    assert world.generate(copy, **SIZES)[-1].tracks == 80, "it is known as a world under way"
    with pytest.raises(WorldError, match="has a growth that was interrupted, and is finished before another"):
        grow(copy, BY, seed=2, dry_run=True)
    for directory in (copy, other):
        grow(directory, Growth(users=5), seed=9)
    assert content(copy) == content(other)
    assert [step.users for step in WorldRecord.read(copy).growth] == [60, 5]


def test_what_has_changed_under_way_is_not_guessed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_write_users", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        grow(copy, BY, seed=1)
    monkeypatch.undo()
    with (copy / "users.json").open("a") as file:
        file.write(json.dumps({"user": 1000, "interests": [1]}) + "\n")
    with pytest.raises(WorldError, match=r"users\.json has 301 .* world\.json leads from 300 to 360; restore what has changed"):
        grow(copy, BY, seed=1)


def test_a_log_date_lets_it_grow_once(copy: Path) -> None:
    for day in (DAY + timedelta(days=1), DAY):
        grow(copy, BY, seed=day.day, log_date=day)
    state, record = content(copy), WorldRecord.read(copy)
    assert [step.log_date for step in record.growth] == ["2026-01-06", "2026-01-05"]
    for day in (DAY, DAY + timedelta(days=1)):
        assert grow(copy, Growth(users=1), seed=7, log_date=day) == record.step_of(str(day))
    assert content(copy) == state


def test_two_at_once_take_turns(copy: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=grow, args=(copy, BY), kwargs={"seed": n}) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    world.validate(copy)
    assert len(lines(copy / "users.json")) == 300 + 3 * 60
    assert catalog.load_tracks(copy).size == 2000 + 3 * 80


def test_generate_knows_a_world_that_has_grown(copy: Path, made: Path) -> None:
    assert world.generate(copy, **SIZES) == []
    grow(copy, BY, seed=1)
    state = content(copy)
    assert [step.users for step in world.generate(copy, **SIZES)] == [60]
    assert content(copy) == state
    with pytest.raises(WorldError, match="already holds other files"):
        world.generate(copy, **SIZES, seed=2)
    (copy / "users.json").write_text((copy / "users.json").read_text() + "\n")
    with pytest.raises(WorldError, match="already holds other files"):
        world.generate(copy, **SIZES)
    partial_of(copy / "users.json").write_text("left by who was killed")
    assert world.generate(copy, **SIZES, force=True) == []
    assert content(copy) == content(made)


def test_a_dry_run_changes_nothing(copy: Path) -> None:
    before = content(copy)
    told = grow(copy, BY, seed=1, dry_run=True)
    assert content(copy) == before
    assert grow(copy, BY, seed=1).retired == told.retired


@pytest.mark.parametrize(
    ("by", "error", "message"),
    [
        (Growth(), InvalidInputError, "a growth by nothing; give a number of users, of tracks, or of tracks to retire"),
        (Growth(users=-1), InvalidInputError, "users of a growth is -1; it must be from 0 to"),
        (Growth(retire=2001), InvalidInputError, "2001 tracks are to be retired, but 2000 are available in"),
        (Growth(retire=2000), InvalidInputError, "all 2000 tracks of .* are to be retired; one at least must stay"),
        (Growth(tracks=2**31 - 1 - 2000), InvalidInputError, "2000 and 2147481647 tracks are too many"),
    ],
)
def test_what_is_refused(copy: Path, by: Growth, error: type[Exception], message: str) -> None:
    before = content(copy)
    with pytest.raises(error, match=message):
        grow(copy, by, seed=1)
    assert content(copy) == before


def test_no_world_to_let_grow(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="'/nowhere' is not a directory"):
        grow(Path("/nowhere"), BY, seed=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorldError, match=r"users\.json cannot be read \(No such file"):
        grow(tmp_path / "empty", BY, seed=1)
    copy.chmod(0o555)
    with pytest.raises(WorldError, match="is read-only, as the stack's is; a world that grows must be writable"):
        grow(copy, BY, seed=1)
    copy.chmod(0o755)
    np.save(copy / "tracks.npy", np.zeros((2001, 64), np.float32))
    with pytest.raises(WorldError, match=r"has 2001 rows, but there are 2000 tracks; cut it before the world grows"):
        grow(copy, BY, seed=1)
    (copy / "world.json").write_text('{"growth": [7]}')
    with pytest.raises(WorldError, match=r"world\.json is no record of a world: growth\.0: .*; restore it, or move it away"):
        grow(copy, BY, seed=1)


def test_users_end_below_the_largest_id(copy: Path) -> None:
    with (copy / "users.json").open("a") as file:
        file.write(json.dumps({"user": 2**63 - 3, "interests": [1]}) + "\n")
    with pytest.raises(InvalidInputError, match="3 users after 9223372036854775805 are too many; ids end below 2\\^63"):
        grow(copy, Growth(users=3), seed=1)
    grow(copy, Growth(users=2), seed=1)
    assert catalog.load_users(copy)[-1] == 2**63 - 1


def test_a_full_disk_leaves_what_was_there(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(copy)

    def full(path: Path, data: bytes) -> None:
        if path.name == "tracks.npy":
            raise OSError(28, "No space left on device")
        replace_file(path, data)

    monkeypatch.setattr(module, "replace_file", full)
    with pytest.raises(WorldError, match="cannot grow: No space left on device"):
        grow(copy, BY, seed=1)
    assert {name: data for name, data in content(copy).items() if name != "world.json"} == {
        name: data for name, data in before.items() if name != "world.json"
    }
    monkeypatch.undo()
    assert grow(copy, BY, seed=1).tracks_after == 2080
    assert len(WorldRecord.read(copy).growth) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [("users=3", Growth(users=3)), ("retire=1, tracks=20,users=0", Growth(0, 20, 1)), ("tracks=7,retire=2", Growth(0, 7, 2))],
)
def test_what_a_setting_says(text: str, found: Growth) -> None:
    assert Growth.parse(text) == found


@pytest.mark.parametrize("text", ["", "users", "users=-1", "users=1,users=1", "listeners=3", "users=1;tracks=2", "users=²"])
def test_what_a_setting_cannot_say(text: str) -> None:
    with pytest.raises(InvalidInputError, match="must be of the form users=100,tracks=50,retire=5"):
        Growth.parse(text)
