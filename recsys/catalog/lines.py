"""Files with one JSON object a line, as catalogues and users have them."""

from collections.abc import Iterator
from pathlib import Path

import orjson

from recsys.exceptions import WorldError


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line numbers (from 1) and objects of a file with one JSON object a line; empty lines at its end do not count.

    Raises:
        WorldError: the file cannot be read, or a line is not a JSON object; names the file and the line.
    """
    try:
        lines = path.read_bytes().rstrip().split(b"\n")
    except OSError as error:
        raise WorldError(f"{path} cannot be read ({error.strerror}); give a world directory, or write one first") from None
    if lines == [b""]:
        return
    loads = orjson.loads
    for number, line in enumerate(lines, 1):
        try:
            data = loads(line)
        except orjson.JSONDecodeError as error:
            raise malformed(path, number, f"not JSON ({error}): {line[:80]!r}") from None
        if type(data) is not dict:
            raise malformed(path, number, f"{line[:80]!r} is not a JSON object")
        yield number, data


def malformed(path: Path, number: int, what: str) -> WorldError:
    """The error that names a file, its line and what is wrong there."""
    return WorldError(f"{path} line {number}: {what}")
