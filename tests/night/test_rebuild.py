"""A log date anew: its traffic though it is there, its night without anything of an earlier attempt; and what is damaged."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from recsys.exceptions import CorruptDataError, InvalidInputError
from recsys.experiments import RunSpec
from recsys.logs.upload import upload_shards
from recsys.night import dataset, steps, traffic
from recsys.night.night import Night
from recsys.night.recommend import recommend
from recsys.night.train import train
from recsys.schemas import Inputs, ShardResult, Verdict
from recsys.storage.layout import Dated
from recsys.versions import keyspace, runs
from tests.support.components import Valkey
from tests.support.documents import night_of, publish, verdict
from tests.support.night import DAY, tastes, write_interactions, write_world

pytestmark = pytest.mark.real


@pytest.fixture
def night(tmp_path: Path, valkey: Valkey) -> Night:
    return night_of(tmp_path, DAY, world=write_world(tmp_path / "world"), redis_url=valkey.url)


def logged(night: Night, base: str, heard: float) -> list[ShardResult]:
    """What the service logs of a session of one shard, and what the shard tells of it."""
    run = f"{base}.0.a"
    directory = night.settings.log_dir / run
    directory.mkdir(parents=True, exist_ok=True)
    whole = {"message": "last", "timestamp": 1, "user": 1, "track": 5, "time": heard, "run": run, "session": 0, "step": 0}
    (directory / "w.jsonl").write_text(json.dumps(whole) + "\n")
    return [ShardResult(run, 0, 1, 0, 1, heard, 0.0, 1.0, 0.0)]


def spoil(night: Night, name: str) -> None:
    """Change a byte of every file of a directory, but of its manifest."""
    for path in (Path(night.settings.storage_url.removeprefix("file://")) / name).iterdir():
        if path.name not in ("manifest.json", "_SUCCESS"):
            path.write_bytes(b"#" + path.read_bytes()[1:])


def first(night: Night) -> str:
    """Logs of the date; gives their checksum."""
    upload_shards(night.store, night.settings.log_dir, logged(night, "base", 0.5), night.logs, RunSpec("base", "", 1.0, 1))
    return night.store.manifest(night.logs).checksum


def test_traffic_that_is_there_is_left_alone_unless_it_is_rebuilt(night: Night) -> None:
    before = first(night)
    assert traffic.plan(night)["done"]
    planned = traffic.plan(night, rebuild=True)
    assert not planned["done"]
    assert runs.registered(keyspace.connect(night.settings), planned["base"]).base == planned["base"]
    # Until the new logs are whole the old ones stand.
    assert night.store.manifest(night.logs).checksum == before
    traffic.upload(night, planned["base"], logged(night, planned["base"], 0.9))
    assert night.store.manifest(night.logs).checksum != before
    assert "0.9" in next(night.store.local(night.logs).glob("*.jsonl")).read_text()
    assert len(list(Path(night.settings.storage_url.removeprefix("file://")).glob(".trash/*"))) == 1
    assert traffic.plan(night)["done"]


@pytest.mark.drill("logs of a date", "bytes have changed, or a file is gone", "traffic names it; a rebuild plays the date again")
@pytest.mark.parametrize("lost", [False, True])
def test_damaged_traffic_is_named_and_rebuilt(night: Night, lost: bool) -> None:
    first(night)
    if lost:
        next(night.store.local(night.logs).glob("*.jsonl")).unlink()
    else:
        spoil(night, night.logs)
    with pytest.raises(CorruptDataError, match=f"logs/date={DAY}.* rebuild the date"):
        traffic.plan(night)
    planned = traffic.plan(night, rebuild=True)
    # The same logs as before: the damaged ones do not stay in their place.
    upload_shards(night.store, night.settings.log_dir, logged(night, "base", 0.5), night.logs, RunSpec("base", "", 1.0, 1))
    assert not planned["done"]
    assert night.store.is_intact(night.logs)


def test_a_data_set_is_rebuilt_on_both_of_its_dates(night: Night) -> None:
    first(night)
    days = dataset.dates_of(DAY)
    assert {day for day, _ in dataset.plan(night, 100)} == {days[0]}
    assert {day for day, _ in dataset.plan(night, 100, rebuild=True)} == set(days)


def test_requests_of_real_listeners_cannot_be_played_again(night: Night) -> None:
    before = first(night)
    live = Night(DAY, night.settings.model_copy(update={"experiment_source": "live"}))
    with pytest.raises(InvalidInputError, match="real listeners did, which cannot be played again"):
        traffic.plan(live, rebuild=True)
    assert night.store.manifest(night.logs).checksum == before


def test_models_are_trained_again_if_they_are_damaged_or_in_a_rebuild(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    def trained(**more: bool) -> bool:
        caplog.clear()
        with caplog.at_level("INFO", "recsys.night.train"):
            train(night, **more)
        return "is there already" not in caplog.text

    write_interactions(night.store, tastes())
    assert trained()
    recommend(night)
    lists = night.store.manifest(night.recommendations).checksum
    assert not trained()
    assert trained(rebuild=True)
    spoil(night, night.models)
    assert trained()
    recommend(night)
    assert night.store.manifest(night.recommendations).checksum == lists


@pytest.mark.drill("a night", "bytes of what it wrote have changed", "a rebuild puts it aside; what is whole stays")
def test_a_rebuild_reads_nothing_that_is_damaged(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    first(night)
    monkeypatch.setattr(steps.collect, "collect", lambda night, *, live, **noted: {"live": len(live)})
    write_interactions(night.store, tastes(), live="2026-01-04-0a1b2c3d")
    publish(night.store, DAY, verdict("held", "2026-01-05-0a1b2c3d", reason="worse"))
    # What is whole tells what was live at the first attempt.
    assert steps.collect_interactions(night, rebuild=True)["live"] == len("2026-01-04-0a1b2c3d")
    spoil(night, night.interactions)
    spoil(night, Verdict.KIND.on(DAY))
    with pytest.raises(CorruptDataError):
        steps.collect_interactions(night)
    assert steps.collect_interactions(night, rebuild=True)["live"] == 0
    assert Verdict.find(night.store, DAY) is None
    assert Inputs.find(night.store, DAY) is None
    assert night.store.is_intact(Dated.LOGS.on(DAY))
    assert not night.store.is_complete(Dated.LOGS.on(DAY - timedelta(days=1)))
