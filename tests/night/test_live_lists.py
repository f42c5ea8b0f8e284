"""The candidate is compared with the lists of the version that is live, whatever else has been written for its date."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from recsys.cli import app
from recsys.exceptions import MissingDataError
from recsys.night import steps
from recsys.night.night import Night
from recsys.night.recommend import recommend
from recsys.night.train import train
from recsys.versions import keyspace, pointer, publish
from recsys.versions.content import VERSION, read_directory
from tests.support.components import Valkey
from tests.support.documents import night_of
from tests.support.night import DAY, TRACKS, USERS, tastes, write_interactions, write_world

pytestmark = pytest.mark.real

BEFORE = DAY - timedelta(days=1)


@pytest.fixture
def night(tmp_path: Path, valkey: Valkey) -> Night:
    return night_of(tmp_path, DAY, world=write_world(tmp_path / "world"), redis_url=valkey.url)


@pytest.fixture
def client(night: Night) -> redis.Redis:
    return keyspace.connect(night.settings)


def perfect() -> dict[int, list[int]]:
    """Lists that begin with what each user likes on the night's date: no candidate is as good."""
    liked: dict[int, list[int]] = {user: [] for user in range(USERS)}
    for user, track, day in tastes():
        if day == DAY and track not in liked[user]:
            liked[user].append(track)
    return {user: (tracks + [t for t in range(TRACKS) if t not in tracks])[:50] for user, tracks in liked.items()}


def poor() -> dict[int, list[int]]:
    """The same tracks for everybody: every candidate is better."""
    return {user: list(range(TRACKS - 50, TRACKS)) for user in range(USERS)}


def write_lists(directory: Path, lists: Mapping[int, Sequence[int]]) -> tuple[Path, Path]:
    """Lists and TOP 100 in the original's formats."""
    directory.mkdir(parents=True, exist_ok=True)
    files = directory / "recommendations.json", directory / "top_tracks.json"
    files[0].write_text("".join(json.dumps({"user": user, "tracks": list(tracks)}) + "\n" for user, tracks in lists.items()))
    files[1].write_text(json.dumps(list(range(100))))
    return files


def publish_by_hand(night: Night, directory: Path, lists: Mapping[int, Sequence[int]], monkeypatch: pytest.MonkeyPatch) -> str:
    """``recsys publish`` of lists for the date before; the version that is live then."""
    files = write_lists(directory, lists)
    monkeypatch.setenv("RECSYS_VAR", str(night.settings.var))
    monkeypatch.setenv("RECSYS_REDIS_URL", night.settings.redis_url.get_secret_value())
    words = ["--recommendations", str(files[0]), "--top", str(files[1]), "--date", str(BEFORE), "--world", str(night.world)]
    app(["publish", *words], standalone_mode=False)
    return pointer.read(keyspace.connect(night.settings)).version


def rerun(night: Night, directory: Path, lists: Mapping[int, Sequence[int]]) -> None:
    """A night of the date before has written lists, as ``recommend`` writes them."""
    files = write_lists(directory, lists)
    with night.store.stage(f"recommendations/date={BEFORE}") as staging:
        for file in files:
            (staging / file.name).write_bytes(file.read_bytes())


def reasons(night: Night, live: str) -> str:
    write_interactions(night.store, tastes(), live=live)
    train(night)
    return " ".join(steps.evaluate_gate(night).reasons)


def test_lists_that_a_person_published_are_what_is_compared_with(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = publish_by_hand(night, tmp_path / "mine", perfect(), monkeypatch)
    assert "live lists" in reasons(night, live)


def test_they_are_compared_with_although_a_night_of_their_date_has_others(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = publish_by_hand(night, tmp_path / "mine", perfect(), monkeypatch)
    rerun(night, tmp_path / "other", poor())
    assert "live lists" in reasons(night, live)


def test_a_rerun_of_the_live_date_does_not_change_what_is_compared_with(
    night: Night, client: redis.Redis, tmp_path: Path
) -> None:
    rerun(night, tmp_path / "first", perfect())
    live = publish.publish_version(client, read_directory(tmp_path / "first"), BEFORE)
    rerun(night, tmp_path / "second", poor())
    assert "live lists" in reasons(night, live)


def test_where_the_lists_of_what_is_live_are_gone_the_gate_says_so(night: Night, client: redis.Redis, tmp_path: Path) -> None:
    rerun(night, tmp_path / "first", perfect())
    live = publish.publish_version(client, read_directory(tmp_path / "first"), BEFORE)
    rerun(night, tmp_path / "second", poor())
    other = read_directory(tmp_path / "second").version(BEFORE)
    client.flushall()
    with pytest.raises(MissingDataError, match=f"{live} are not in .* holds {other} by now"):
        reasons(night, live)


def test_a_lost_redis_gets_the_lists_that_were_live_and_no_others(
    night: Night, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = publish_by_hand(night, tmp_path / "mine", perfect(), monkeypatch)
    rerun(night, tmp_path / "other", poor())
    client.flushall()
    app(["restore-live"], standalone_mode=False)
    assert pointer.read(client).version == live
    assert publish.served_lists(client, live, [3]) == {3: perfect()[3]}


def test_the_manifest_names_the_version(night: Night) -> None:
    write_interactions(night.store, tastes())
    train(night)
    recommend(night)
    told = night.store.manifest(night.recommendations).labels[VERSION]
    assert told == read_directory(night.store.local(night.recommendations)).version(DAY)
