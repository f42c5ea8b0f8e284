"""Dated directories: atomic, verified, idempotent; the same on a local disk and on a real HDFS."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from recsys.exceptions import CorruptDataError, InvalidInputError, MissingDataError
from recsys.storage.staging import PREFIX, staging_name
from recsys.storage.store import Storage
from tests.support.hdfs import SCHEMES

NAME = "logs/date=2026-01-02"


@pytest.fixture(params=SCHEMES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "file":
        return Storage(f"file://{tmp_path}/store")
    request.getfixturevalue("scratch")
    return Storage(request.getfixturevalue("hdfs_root"))


def write(store: Storage, name: str, text: str) -> None:
    counts: dict[str, int] = {}
    with store.stage(name, counts) as staging:
        (staging / "a.txt").write_text(text)
        (staging / "empty").touch()
        counts["lines"] = 1


def names(store: Storage, directory: str) -> list[str]:
    return [entry.name for entry in store._entries(f"{store.root}/{directory}".rstrip("/"))]


def test_a_directory_appears_whole_with_its_manifest(store: Storage) -> None:
    assert store.dates("logs") == []
    write(store, NAME, "x")
    manifest = store.manifest(NAME)
    assert [f.name for f in manifest.files] == ["a.txt", "empty"]
    assert manifest.counts == {"lines": 1}
    assert (store.local(NAME) / "a.txt").read_text() == "x"
    assert (store.local(NAME) / "empty").read_text() == ""
    assert store.dates("logs") == [date(2026, 1, 2)]
    assert names(store, "logs") == ["date=2026-01-02"]


def test_a_failed_write_leaves_nothing(store: Storage) -> None:
    def fail() -> None:
        with store.stage(NAME) as staging:
            (staging / "a.txt").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not store.is_complete(NAME)
    assert names(store, "logs") == []


def test_the_same_content_is_left_alone_and_another_moves_the_old_one_to_trash(store: Storage) -> None:
    write(store, NAME, "x")
    before = store.fs.info(f"{store.path(NAME)}/manifest.json")
    write(store, NAME, "x")
    assert store.fs.info(f"{store.path(NAME)}/manifest.json") == before
    assert names(store, ".trash") == []
    write(store, NAME, "y")
    assert (store.local(NAME) / "a.txt").read_text() == "y"
    assert len(names(store, ".trash")) == 1
    # Nothing nests: neither the new one in the old one nor the old one in an older one.
    assert sorted(names(store, NAME)) == ["_SUCCESS", "a.txt", "empty", "manifest.json"]


def test_a_large_file_is_read_back_in_parts(store: Storage) -> None:
    content = os.urandom(33 * 2**20)
    with store.stage(NAME) as staging:
        (staging / "large").write_bytes(content)
    assert (store.local(NAME) / "large").read_bytes() == content


def test_a_removed_directory_is_trash_until_it_is_swept(store: Storage) -> None:
    write(store, NAME, "x")
    store.remove(NAME)
    assert not store.is_complete(NAME)
    assert store.sweep(1) == []
    (swept,) = store.sweep(-1)
    assert "/.trash/" in swept
    assert names(store, ".trash") == []


@pytest.mark.drill("storage", "a directory without _SUCCESS stands in the way", "it counts as absent and is replaced")
def test_a_directory_without_a_success_is_replaced(store: Storage, tmp_path: Path) -> None:
    (tmp_path / "half").write_text("half")
    store.fs.makedirs(store.path(NAME))
    store.fs.put_file(str(tmp_path / "half"), f"{store.path(NAME)}/half")
    assert store.dates("logs") == []
    write(store, NAME, "x")
    assert sorted(names(store, NAME)) == ["_SUCCESS", "a.txt", "empty", "manifest.json"]


@pytest.mark.drill(
    "storage", "a dead writer's unfinished directory is left", "the next writer removes it and leaves those of living ones"
)
def test_what_a_dead_writer_left_is_removed_by_the_next_one(store: Storage) -> None:
    program = "from recsys.storage.staging import staging_name; print(staging_name('date=2026-01-02'))"
    dead = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
    living = staging_name("date=2026-01-02")
    other = staging_name("date=2026-01-03")
    for name in (dead, living, other):
        store.fs.makedirs(f"{store.root}/logs/{name}")
    write(store, NAME, "x")
    assert set(names(store, "logs")) == {"date=2026-01-02", living, other}
    assert store.dates("logs") == [date(2026, 1, 2)]
    assert len(store.sweep(1)) == 0
    assert len(store.sweep(-1)) == 2
    assert store.is_complete(NAME)


def test_what_is_no_dated_directory_is_left_out_of_a_listing(
    store: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(store, NAME, "x")
    write(store, "logs/date=2026-01-04", "y")
    (tmp_path / "stray").write_text("z")
    directories = [
        "date=2026-01-01.bak",
        "date=x",
        "date=",
        "date=2026-02-30",
        "date=20260105",
        "date=2026-01-06 (copy)",
        "date=%41é",
    ]
    for stray in (*directories, "other", "2026-01-07"):
        store.fs.makedirs(f"{store.path('logs')}/{stray}")
    for stray in ("date=2026-01-03", "notes.txt"):
        store.fs.put_file(str(tmp_path / "stray"), f"{store.path('logs')}/{stray}")
    if store.is_local:
        (tmp_path / "outside").mkdir()
        (tmp_path / "store" / "logs" / "date=2026-01-08").symlink_to(tmp_path / "outside")
        (tmp_path / "store" / "logs" / "date=2026-01-09").symlink_to(tmp_path / "nowhere")
        (tmp_path / "store" / "logs" / "date=2026-01-10").symlink_to("date=2026-01-10")
        Path(os.fsdecode(os.fsencode(tmp_path / "store/logs/date=") + b"\xff")).mkdir()
    with caplog.at_level("WARNING"):
        assert store.dates("logs") == [date(2026, 1, 2), date(2026, 1, 4)]
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert all(repr(stray) in record.message for stray in (*directories, "date=2026-01-03"))
    assert "other" not in record.message
    assert "date=2026-01-02" not in record.message


def test_what_is_not_there_is_named(store: Storage) -> None:
    with pytest.raises(MissingDataError, match=NAME):
        store.manifest(NAME)


@pytest.mark.drill("storage", "a manifest is gone", "an error names it")
def test_a_manifest_that_is_gone_is_noticed(store: Storage) -> None:
    write(store, NAME, "x")
    store.fs.rm(f"{store.path(NAME)}/manifest.json")
    with pytest.raises(CorruptDataError, match=r"manifest\.json"):
        store.manifest(NAME)


def test_a_manifest_of_another_program_is_not_read_as_one_of_ours(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}/store")
    with store.stage("logs/date=2026-01-02") as staging:
        (staging / "a.jsonl").write_text("{}\n")
    manifest = tmp_path / "store" / "logs" / "date=2026-01-02" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(CorruptDataError, match="schema cannot be taken"):
        store.local("logs/date=2026-01-02")


@pytest.mark.drill("storage", "bytes of a published file have changed", "an error names the file")
def test_changed_bytes_are_noticed(store: Storage, tmp_path: Path) -> None:
    write(store, NAME, "x")
    store.local(NAME)
    (tmp_path / "z").write_text("z")
    store.fs.put_file(str(tmp_path / "z"), f"{store.path(NAME)}/a.txt")
    if not store.is_local:
        (store.local(NAME) / "a.txt").write_text("spoiled")  # A spoiled copy is fetched again.
    with pytest.raises(CorruptDataError, match=r"a\.txt"):
        store.local(NAME)


@pytest.mark.drill("storage", "a file or the manifest of a directory is damaged or gone", "writing the same again replaces it")
@pytest.mark.parametrize(("file", "gone"), [("a.txt", False), ("a.txt", True), ("manifest.json", False), ("manifest.json", True)])
def test_what_is_damaged_is_replaced_by_the_same_content(store: Storage, tmp_path: Path, file: str, gone: bool) -> None:
    write(store, NAME, "x")
    assert store.is_intact(NAME)
    (tmp_path / "z").write_text("z")
    if gone:
        store.fs.rm(f"{store.path(NAME)}/{file}")
    else:
        store.fs.put_file(str(tmp_path / "z"), f"{store.path(NAME)}/{file}")
    assert not store.is_intact(NAME)
    write(store, NAME, "x")
    assert store.is_intact(NAME)
    assert (store.local(NAME) / "a.txt").read_text() == "x"
    assert len(names(store, ".trash")) == 1


@pytest.mark.real
def test_local_copies_go_when_nobody_asks_for_them(hdfs_root: str, scratch: Path) -> None:
    store = Storage(hdfs_root)
    write(store, NAME, "x")
    write(store, "logs/date=2026-01-03", "y")
    old, new = store.local(NAME), store.local("logs/date=2026-01-03")
    assert old.stat().st_mode & 0o077 == 0 or old.parent.stat().st_mode & 0o077 == 0
    os.utime(old, (0, 0))
    store.local("logs/date=2026-01-03")
    assert not old.exists()
    assert (new / "a.txt").exists()
    assert (store.local(NAME) / "a.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["", "/etc", "../up", "a/../b", "a//b", ".", "a:b", "a\nb", "a b", f"a/{PREFIX}b"])
def test_names_that_climb_or_mislead_are_refused(store: Storage, name: str) -> None:
    with pytest.raises(InvalidInputError):
        store.path(name)


def test_a_symbolic_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}/store")
    write(store, NAME, "x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "way").symlink_to(tmp_path / "outside")
    for act in (lambda: write(store, "way/date=2026-01-02", "x"), lambda: store.dates("way"), lambda: store.remove("way")):
        with pytest.raises(InvalidInputError, match="symbolic link"):
            act()
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_symbolic_link_is_not_published(store: Storage, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")

    def link() -> None:
        with store.stage(NAME) as staging:
            (staging / "a.txt").symlink_to(tmp_path / "secret")

    with pytest.raises(InvalidInputError, match="symbolic link"):
        link()
    assert not store.is_complete(NAME)


@pytest.mark.parametrize("url", ["/tmp/x", "memory://x", "webhdfs:///x", "webhdfs://host:1/a/../b", "webhdfs://a%2Fb@host:1/x"])
def test_a_storage_that_is_no_url_of_a_known_kind_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError):
        Storage(url)


def test_a_document_that_was_changed_is_not_read(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    with store.stage(NAME) as staging:
        (staging / "inputs.json").write_text('{"live": "v"}')
    assert store.read_bytes(NAME, "inputs.json") == b'{"live": "v"}'
    with pytest.raises(MissingDataError, match=r"holds no other\.json"):
        store.read_bytes(NAME, "other.json")
    file = Path(store.path(NAME)) / "inputs.json"
    file.write_text('{"live": "w"}')
    with pytest.raises(CorruptDataError, match="does not match its manifest"):
        store.read_bytes(NAME, "inputs.json")
    file.unlink()
    with pytest.raises(CorruptDataError, match="does not match its manifest"):
        store.read_bytes(NAME, "inputs.json")
