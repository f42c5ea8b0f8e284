"""`recsys logs`: what the service wrote goes to a user's directory, whole and once; the same on files and on a real HDFS."""

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from recsys.cli import app
from recsys.exceptions import ConflictError, CorruptDataError, InvalidInputError, MissingDataError, UnavailableError
from recsys.logs import upload as logs
from recsys.service.log import RequestLog
from recsys.storage.store import Storage
from tests.logs.test_upload import record, result
from tests.support.hdfs import SCHEMES


@pytest.fixture(params=SCHEMES)
def storage(request: pytest.FixtureRequest, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"file://{tmp_path}/store"
    if request.param == "webhdfs":
        hdfs = request.getfixturevalue("hdfs")
        url = f"{hdfs.url}/nightshift"
        root = Storage(f"{hdfs.url}/")
        root.fs.makedirs("/user/ann", exist_ok=True)
        root.fs.chown("/user/ann", "ann")
        root.fs.rm(f"/user/ann/{directory_of(tmp_path)}", recursive=True)
    monkeypatch.setenv("RECSYS_STORAGE", url)
    monkeypatch.setenv("RECSYS_SERVICE_LOGS", str(tmp_path / "logs"))
    for shard in (0, 1):
        run = tmp_path / "logs" / f"base.{shard}.a"
        run.mkdir(parents=True)
        write_rested(run / "w.jsonl", record(shard, 0) + record(shard, 1, "last"))
    return url


def directory_of(tmp_path: Path) -> str:
    return f"{tmp_path.name}-d"


def write_rested(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (time.time() - 60, time.time() - 60))


def run(*words: str) -> None:
    app(list(words), standalone_mode=False)


def test_upload_pull_and_again(storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = directory_of(tmp_path)
    run("logs", "upload", name, "--user", "ann", "--echo")
    told = capsys.readouterr().out
    assert f"base.1.a/w.jsonl -> user/ann/{name}/base.1.a-w.jsonl" in told
    assert f"/user/ann/{name}: 4 events, 0 repeated lines" in told
    run("logs", "upload", name, "--user", "ann", "--cleanup")
    assert not any((tmp_path / "logs").iterdir())
    run("logs", "upload", name, "--user", "ann", "--cleanup")  # nothing left to do is no failure
    for _ in range(2):
        run("logs", "pull", str(tmp_path / "pulled"), "--uploaded", name, "--user", "ann")
    assert (tmp_path / "pulled" / "base.0.a-w.jsonl").read_bytes() == record(0, 0) + record(0, 1, "last")
    if storage.startswith("webhdfs"):
        status = Storage(storage.replace("/nightshift", "/")).fs.info(f"/user/ann/{name}/base.0.a-w.jsonl")
        assert status["owner"] == "ann"


def test_a_storage_without_a_host_is_refused_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_STORAGE", "webhdfs:///nightshift")
    with pytest.raises(InvalidInputError, match="webhdfs:///nightshift"):
        run("logs", "upload", "d", "--user", "ann")


def test_other_logs_are_not_replaced(storage: str, tmp_path: Path) -> None:
    name = directory_of(tmp_path)
    run("logs", "upload", name, "--user", "ann")
    write_rested(tmp_path / "logs" / "base.1.a" / "w.jsonl", record(1, 0))
    with pytest.raises(ConflictError, match="other logs"):
        run("logs", "upload", name, "--user", "ann", "--cleanup")
    assert (tmp_path / "logs" / "base.1.a" / "w.jsonl").exists()


def test_results_decide_which_runs_are_taken(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.write_text("2 episodes\n" + json.dumps(vars(result(1, 1, 1))) + "\n")
    name = directory_of(tmp_path)
    run("logs", "upload", name, "--user", "ann", "--results", str(results), "--cleanup")
    assert "2 events" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["base.0.a"]
    monkeypatch.setattr(logs, "WAIT_SECONDS", 0.0)
    results.write_text(json.dumps(vars(result(0, 7, 1))))
    with pytest.raises(CorruptDataError, match="answered 7 next"):
        run("logs", "upload", f"{name}-2", "--user", "ann", "--results", str(results))


def test_a_file_that_is_being_written_is_waited_for(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = tmp_path / "logs" / "base.1.a" / "w.jsonl"

    def write() -> None:
        for step in range(10):
            with busy.open("ab") as file:
                file.write(record(1, 2 + step))
            time.sleep(0.1)

    monkeypatch.setattr(logs, "REST_SECONDS", 0.5)
    writer = threading.Thread(target=write)
    writer.start()
    run("logs", "pull", str(tmp_path / "pulled"))
    writer.join()
    assert logs.count_events(sorted((tmp_path / "pulled").glob("*.jsonl")))["next"] == 12
    monkeypatch.setattr(logs, "LIVE_WAIT_SECONDS", 0.0)
    busy.touch()
    with pytest.raises(UnavailableError, match="still being written"):
        run("logs", "upload", directory_of(tmp_path), "--user", "ann")


@pytest.mark.drill(
    "service's log", "uploaded and cleaned up while workers write", "every answered line is in the storage or in the log"
)
def test_no_line_is_lost_to_an_upload_that_cleans_up(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "REST_SECONDS", 0.0)
    source, store, answered, done = tmp_path / "written", Storage(storage), 0, threading.Event()

    def answer() -> None:
        nonlocal answered
        writer = RequestLog(source)
        while not done.is_set():
            writer.write("live", record(7, answered))
            answered += 1
            time.sleep(0.001)
        writer.close()

    thread = threading.Thread(target=answer)
    thread.start()
    names = [f"user/ann/{directory_of(tmp_path)}/part{number}" for number in range(5)]
    try:
        while answered < 10:
            time.sleep(0.001)
        with pytest.raises(UnavailableError, match="open"):
            logs.publish_files(store, source, names[0], cleanup=True)
        assert not store.is_complete(names[0])
        for name in names:
            for path in (source / "live").glob("*.jsonl"):  # nor would anything be lost if what is open were taken
                logs.remove(path, 0)
            with suppress(UnavailableError, MissingDataError):
                logs.publish_files(store, source, name, cleanup=True)
        while answered <= 100:
            time.sleep(0.001)
    finally:
        done.set()
        thread.join()
    kept = [path for name in names if store.is_complete(name) for path in store.local(name).iterdir()] + [*source.glob("live/*")]
    steps = {json.loads(line)["step"] for path in kept if path.suffix == ".jsonl" for line in path.read_bytes().splitlines()}
    assert answered > 100
    assert steps >= set(range(answered))


@pytest.mark.drill("logs", "pulled onto the directory of the logs, or onto other files", "refused; nothing is moved")
def test_logs_are_not_pulled_over_what_was_not_pulled(storage: str, tmp_path: Path) -> None:
    for target in (tmp_path / "logs", tmp_path / "logs" / "base.0.a", tmp_path / "logs" / "base.0.a" / "w.jsonl"):
        with pytest.raises(ConflictError, match="not pulled"):
            run("logs", "pull", str(target))
    assert (tmp_path / "logs" / "base.0.a" / "w.jsonl").read_bytes() == record(0, 0) + record(0, 1, "last")


@pytest.mark.drill(
    "logs", "not one line of them is a whole record, or they are compressed", "an error says so; nothing is stored"
)
def test_logs_without_an_event_are_no_success(storage: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_rested(tmp_path / "other" / "x.jsonl", b"{}\n")
    for words in (("upload", directory_of(tmp_path), "--user", "ann"), ("pull", str(tmp_path / "pulled"))):
        with pytest.raises(CorruptDataError, match=r"not one event.*1 malformed"):
            run("logs", *words, "--source", str(tmp_path / "other"), "--cleanup")
    assert (tmp_path / "other" / "x.jsonl").exists()
    (tmp_path / "other" / "y.jsonl.gz").touch()
    with pytest.raises(InvalidInputError, match=r"y\.jsonl\.gz"):
        run("logs", "upload", directory_of(tmp_path), "--user", "ann", "--source", str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("directory", "user"), [("../x", "ann"), ("/etc", "ann"), ("a/../../b", "ann"), ("x", "a/b"), ("x", ".."), ("x", "")]
)
def test_paths_and_users_that_climb_are_refused(
    storage: str, tmp_path: Path, directory: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "a/b")  # what an empty name falls back to
    with pytest.raises(InvalidInputError):
        run("logs", "upload", directory, "--user", user)
    assert (tmp_path / "logs" / "base.0.a" / "w.jsonl").exists()


def test_a_directory_without_logs_is_named(storage: str, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(MissingDataError, match="nothing"):
        run("logs", "upload", directory_of(tmp_path), "--user", "ann", "--source", str(tmp_path / "nothing"))


def test_a_clean_storage_says_what_it_deletes(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = Storage(storage)
    with store.stage("logs/date=2026-01-02", {"events": 1}) as staging:
        (staging / "a").touch()
    run("storage", "list", "logs")
    assert "2026-01-02" in capsys.readouterr().out
    store.remove("logs/date=2026-01-02")
    run("storage", "clean")
    assert capsys.readouterr().out == "0 directories deleted\n"
    time.sleep(1.1)
    run("storage", "clean", "--days", "0")
    assert "1 directories deleted" in capsys.readouterr().out
