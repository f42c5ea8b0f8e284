"""Logs of an import appear whole, once, and over nobody else's."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from recsys.exceptions import ConflictError, CorruptDataError, UnavailableError
from recsys.experiments import RunSpec
from recsys.imports import steps as module
from recsys.logs.record import log_files
from recsys.logs.upload import count_events
from recsys.night.collect import collect
from recsys.night.night import Night
from recsys.settings import load_settings
from recsys.storage.layout import Dated
from recsys.storage.store import Storage
from tests.support.imports import contents, imported, lines, settings_in, write_csv

AT = 1_767_355_200_000  # 2026-01-02T12:00Z
DAY = 86_400_000
ROWS = [[f"u{i % 11}", f"t{i % 13}", AT + (i % 4) * DAY + i * 1000, (i % 5) / 4] for i in range(400)]
HEADER = ["user", "track", "at", "heard"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "a.csv", HEADER, ROWS)


def test_a_date_has_what_real_logs_have(path: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    card = imported(settings, path, time="at", played="heard")
    store = Storage(settings.storage_url)
    assert (len(card.dates), card.written) == (4, 4)
    for day, records in lines(settings).items():
        name = f"logs/date={day}"
        held = store.local(name)
        counted = count_events(log_files(held))
        assert store.manifest(name).counts == {**counted, "episodes": counted["last"]}
        spec = RunSpec.parse((held / RunSpec.FILE).read_bytes(), "run.json")
        assert {record["run"] for record in records} == {spec.base}
        assert (spec.catalogue, spec.version, spec.experiment) == (13, "", None)
    assert len({records[0]["run"] for records in lines(settings).values()}) == 4


def test_a_night_collects_what_was_imported(path: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    imported(settings, path, time="at", played="heard")
    counts = collect(Night(date(2026, 1, 5), settings))
    liked = {(user, track, at // DAY) for user, track, at, heard in ROWS if heard > 0.8}
    assert counts["interactions"] == len(liked)
    assert (counts["events"], counts["malformed"], counts["repeated"]) == (400, 0, 0)


def test_again_changes_nothing_in_whatever_form(path: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    imported(settings, path, time="at", played="heard")
    before = contents(settings.var)
    other = tmp_path / "a.jsonl"
    other.write_text("".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in ROWS))
    for file in (path, other):
        card = imported(settings, file, time="at", played="heard")
        assert (card.written, card.new_tracks) == (0, 0)
        assert contents(settings.var) == before


def test_a_file_that_has_grown_adds_its_new_dates(path: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    imported(settings, path, time="at", played="heard")
    before = contents(settings.var / "storage")
    longer = write_csv(tmp_path / "b.csv", HEADER, [*ROWS, ["u1", "new", AT + 9 * DAY, 1]])
    card = imported(settings, longer, time="at", played="heard")
    assert (len(card.dates), card.written) == (5, 1)
    after = contents(settings.var / "storage")
    assert {name: after[name] for name in before} == before


def test_over_other_logs_is_refused_before_anything_is_written(path: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    store = Storage(settings.storage_url)
    with store.stage("logs/date=2026-01-04") as staging:
        RunSpec("live", "", 0.0, 1).write(staging)
    before = contents(settings.var)
    with pytest.raises(ConflictError, match=r"logs/date=2026-01-04 .* other logs \(live\).* 'recsys logs remove 2026-01-04'"):
        imported(settings, path, time="at", played="heard")
    assert contents(settings.var) == before
    store.remove("logs/date=2026-01-04")
    assert imported(settings, path, time="at", played="heard").written == 4
    changed = write_csv(tmp_path / "b.csv", HEADER, [*ROWS[:-1], [*ROWS[-1][:3], 0.5]])
    with pytest.raises(ConflictError, match="other logs"):
        imported(settings, changed, time="at", played="heard")
    with pytest.raises(ConflictError, match="other logs"):
        imported(settings, path, time="at")


def test_logs_without_a_specification_are_other_logs(path: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with Storage(settings.storage_url).stage("logs/date=2026-01-02") as staging:
        (staging / "a.jsonl").write_text("")
    with pytest.raises(ConflictError, match=r"no run\.json"):
        imported(settings, path, time="at", played="heard")


def test_a_damaged_date_is_told(path: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    imported(settings, path, time="at", played="heard")
    with (settings.var / "storage/logs/date=2026-01-03/import.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(CorruptDataError, match="does not match its manifest"):
        imported(settings, path, time="at", played="heard")


def test_a_dry_run_checks_everything_and_writes_nothing(path: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    card = imported(settings, path, time="at", played="heard", dry_run=True)
    assert not settings.var.exists()
    done = imported(settings, path, time="at", played="heard")
    assert card.__dict__ | {"dry_run": False, "seconds": 0} == done.__dict__ | {"seconds": 0}


def started(path: Path, var: Path, **environment: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "recsys.cli", "import", str(path), "--user", "user", "--track", "track", "--time", "at"]
    variables = {**os.environ, "RECSYS_VAR": str(var), **environment}
    return subprocess.Popen([*words, "--played", "heard"], env=variables, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait(process: "subprocess.Popen[bytes]", path: Path, dates: int) -> None:
    """Until a path is there, and so many dates below it."""
    while process.poll() is None and (not path.exists() or sum(1 for _ in path.glob("date=*")) < dates):
        time.sleep(0.001)


@pytest.mark.drill("an import", "killed between its dates", "a rerun finishes it; the same logs and catalogue")
@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [0, 1, 20])
def test_whoever_is_killed_is_finished_by_a_rerun(killed_after: int, tmp_path: Path) -> None:
    rows = [[f"u{i % 11}", f"t{i % 13}", AT + (i % 60) * DAY + i * 1000, 1] for i in range(3000)]
    path = write_csv(tmp_path / "a.csv", HEADER, rows)
    undisturbed = settings_in(tmp_path / "undisturbed")
    imported(undisturbed, path, time="at", played="heard")
    settings = settings_in(tmp_path / "killed")
    with started(path, settings.var) as process:
        wait(process, settings.world / "tracks.json" if not killed_after else settings.var / "storage" / "logs", killed_after)
        process.send_signal(signal.SIGKILL)
    imported(settings, path, time="at", played="heard")
    assert contents(settings.var) == contents(undisturbed.var)


@pytest.mark.drill("an import", "memory is used up", "the error says so, nothing is written")
def test_too_little_memory_is_told(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    monkeypatch.setattr(module, "MEMORY_LIMIT", "1MB")
    with pytest.raises(UnavailableError, match="cannot be sorted in"):
        imported(settings, path, time="at", played="heard")
    assert contents(settings.var) == {}


@pytest.mark.drill("an import", "a signal", "its scratch is gone; a rerun finishes it")
@pytest.mark.slow
def test_a_signal_ends_it_and_its_scratch(tmp_path: Path) -> None:
    rows = [[f"u{i % 11}", f"t{i % 13}", AT + (i % 300) * DAY + i * 1000, 1] for i in range(3000)]
    rows = [row for row in rows if row[2] < 1_790_000_000_000]
    path = write_csv(tmp_path / "a.csv", HEADER, rows)
    settings = settings_in(tmp_path)
    (tmp_path / "scratch").mkdir()
    with started(path, settings.var, TMPDIR=str(tmp_path / "scratch")) as process:
        wait(process, settings.var / "storage" / "logs", 3)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not list(settings.var.rglob(".staging-*"))
    card = imported(settings, path, time="at", played="heard")
    assert 0 < card.written < len(card.dates)


@pytest.mark.real
@pytest.mark.xdist_group("hdfs")
def test_the_same_on_hdfs(hdfs_root: str, path: Path, tmp_path: Path) -> None:
    settings = load_settings(var=tmp_path / "var", storage=hdfs_root)
    assert imported(settings, path, time="at", played="heard").written == 4
    assert imported(settings, path, time="at", played="heard").written == 0
    store, local = Storage(hdfs_root), settings_in(tmp_path / "local")
    imported(local, path, time="at", played="heard")
    for day in store.dates(Dated.LOGS):
        name = Dated.LOGS.on(day)
        assert store.manifest(name) == Storage(local.storage_url).manifest(name)
