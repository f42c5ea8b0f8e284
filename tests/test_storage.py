"""Dated directories: atomic, verified, idempotent."""

from datetime import date
from pathlib import Path

import pytest

from recsys.exceptions import CorruptDataError, InvalidInputError, MissingDataError
from recsys.storage import Storage


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path}/store")


def write(store: Storage, name: str, text: str) -> None:
    counts: dict[str, int] = {}
    with store.stage(name, counts) as staging:
        (staging / "a.txt").write_text(text)
        counts["lines"] = 1


def test_a_directory_appears_whole_with_its_manifest(store: Storage) -> None:
    write(store, "logs/date=2026-01-02", "x")
    manifest = store.manifest("logs/date=2026-01-02")
    assert [f.name for f in manifest.files] == ["a.txt"]
    assert manifest.counts == {"lines": 1}
    assert (store.local("logs/date=2026-01-02") / "a.txt").read_text() == "x"
    assert store.dates("logs") == [date(2026, 1, 2)]


def test_a_failed_write_leaves_nothing(store: Storage, tmp_path: Path) -> None:
    def fail() -> None:
        with store.stage("logs/date=2026-01-02") as staging:
            (staging / "a.txt").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not store.is_complete("logs/date=2026-01-02")
    assert list((tmp_path / "store" / "logs").iterdir()) == []


def test_the_same_content_is_left_alone_and_another_moves_the_old_one_to_trash(store: Storage, tmp_path: Path) -> None:
    write(store, "logs/date=2026-01-02", "x")
    before = (tmp_path / "store/logs/date=2026-01-02/manifest.json").stat().st_mtime_ns
    write(store, "logs/date=2026-01-02", "x")
    assert (tmp_path / "store/logs/date=2026-01-02/manifest.json").stat().st_mtime_ns == before
    write(store, "logs/date=2026-01-02", "y")
    assert (store.local("logs/date=2026-01-02") / "a.txt").read_text() == "y"
    assert len(list((tmp_path / "store" / ".trash").iterdir())) == 1


def test_changed_bytes_are_noticed(store: Storage, tmp_path: Path) -> None:
    write(store, "logs/date=2026-01-02", "x")
    (tmp_path / "store/logs/date=2026-01-02/a.txt").write_text("z")
    with pytest.raises(CorruptDataError, match=r"a\.txt"):
        store.local("logs/date=2026-01-02")


def test_what_is_not_there_is_named(store: Storage) -> None:
    with pytest.raises(MissingDataError, match="logs/date=2026-01-02"):
        store.manifest("logs/date=2026-01-02")


@pytest.mark.parametrize("name", ["", "/etc", "../up", "a/../b", "a//b", "."])
def test_names_that_climb_are_refused(store: Storage, name: str) -> None:
    with pytest.raises(InvalidInputError):
        store.path(name)


def test_a_storage_that_is_no_url_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="not a URL"):
        Storage("/tmp/x")
