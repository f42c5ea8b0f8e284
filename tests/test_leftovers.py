"""What a killed test process leaves running is ended."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.leftovers import is_alive

#: Valkey overwrites its environment; the parent of the sleep has ended.
PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
from recsys.platform.servers import Valkey
from tests.support import leftovers

leftovers.pytest_configure()
directory = Path(sys.argv[1])
(directory / "pids").write_text(f"{Valkey(directory).start().process.pid}\\n")
subprocess.run(["setsid", "sh", "-c", "sleep 300 & echo $! >> pids"], cwd=directory)
time.sleep(leftovers.POLL + 2)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.real
def test_what_a_killed_test_process_leaves_is_ended(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    subprocess.run(words, cwd=Path(__file__).parents[1], check=False)
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    left = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(int(pid)))
    deadline = time.monotonic() + 60
    while any(map(is_alive, left)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
