"""What docker/backup.sh and docker/restore.sh refuse before they touch anything; the copy itself is tests/stack's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "docker"
#: Notes how it was called; says how many runs are under way, or some bytes; fails where the test says so.
DOCKER = """#!/bin/sh
echo "$*" >>"$NOTES"
case "$*" in
    *"select count"*) echo "$RUNNING" ;;
    *"$BROKEN"*) exit 1 ;;
    *) echo bytes ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "docker").mkdir()
    for name in ("backup.sh", "restore.sh"):
        shutil.copy(SCRIPTS / name, tmp_path / "docker")
    (tmp_path / ".env").write_text("COMPOSE_PROJECT_NAME=nightshift-test\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    return tmp_path


def run(checkout: Path, script: str, directory: Path, running: int = 0, broken: str = "nothing") -> tuple[int, str, str]:
    """Exit status and output of a script, and the calls of Docker that it made."""
    notes = checkout / "notes"
    notes.write_text("")
    environment = {
        **os.environ,
        "PATH": f"{checkout}/bin:{os.environ['PATH']}",
        "NOTES": str(notes),
        "RUNNING": str(running),
        "BROKEN": broken,
    }
    words = [str(checkout / "docker" / script), str(directory)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, notes.read_text()


@pytest.mark.drill("backup", "a run is under way", "refused; nothing is written")
def test_a_backup_while_a_run_is_under_way_is_refused(checkout: Path) -> None:
    status, told, calls = run(checkout, "backup.sh", checkout / "copy", running=2)
    assert status == 1
    assert "2 DAG runs are under way" in told
    assert "pg_dump" not in calls
    assert not list(checkout.glob("copy*"))


@pytest.mark.drill("backup", "a part of it fails", "no copy under its name; a rerun makes it")
def test_a_backup_that_breaks_off_is_no_backup(checkout: Path) -> None:
    copy = checkout / "copy"
    assert run(checkout, "backup.sh", copy, broken="namenode")[0] != 0
    assert not copy.exists()
    status, told, calls = run(checkout, "restore.sh", checkout / "copy.partial")
    assert (status, calls) == (2, ""), told
    assert run(checkout, "backup.sh", copy)[0] == 0
    assert [path.name for path in checkout.glob("copy*")] == ["copy"]
    assert copy.stat().st_mode & 0o777 == 0o700
    status, told, _ = run(checkout, "backup.sh", copy)
    assert status == 1
    assert "is there already" in told


@pytest.mark.drill("backup", "a byte of it has changed", "nothing is restored from it")
def test_nothing_is_restored_from_a_damaged_copy(checkout: Path) -> None:
    copy = checkout / "copy"
    assert run(checkout, "backup.sh", copy)[0] == 0
    (copy / "valkey.rdb").write_text("other\n")
    status, told, calls = run(checkout, "restore.sh", copy)
    assert status != 0
    assert "valkey.rdb" in told
    assert calls == ""
