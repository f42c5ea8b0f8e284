"""The request log keeps the files open that are written to."""

import shutil
from pathlib import Path

import pytest

from recsys.service.log import MAX_OPEN, RequestLog


def files(directory: Path, scope: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((directory / scope).iterdir())]


def test_the_file_that_was_written_to_longest_ago_is_closed(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    for number in range(MAX_OPEN):
        log.write(f"run{number}", b"1\n")
    for number in range(MAX_OPEN - 1):
        log.write("run0", b"2\n")
        log.write(f"more{number}", b"1\n")
    log.write("run0", b"3\n")
    log.close()
    assert len(files(tmp_path, "run0")) == 1
    assert files(tmp_path, "run0") == [b"1\n" + b"2\n" * (MAX_OPEN - 1) + b"3\n"]


def test_no_more_files_are_open_than_may_be(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    for number in range(2 * MAX_OPEN):
        log.write(f"run{number}", b"1\n")
    held = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert sum(path.is_relative_to(tmp_path) for path in held) == MAX_OPEN
    log.close()
    log = RequestLog(tmp_path)
    log.write("run0", b"2\n")
    log.close()
    assert files(tmp_path, "run0") == [b"1\n", b"2\n"]


@pytest.mark.drill("service's log", "a file that a worker has open is removed", "the line is written again, into a new file")
def test_a_line_whose_file_has_gone_is_written_again(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    log.write("live", b"1\n")
    next((tmp_path / "live").iterdir()).unlink()
    log.write("live", b"2\n")
    assert files(tmp_path, "live") == [b"2\n"]
    shutil.rmtree(tmp_path / "live")
    log.write("live", b"3\n")
    log.write("live", b"4\n")
    log.close()
    assert files(tmp_path, "live") == [b"3\n4\n"]
