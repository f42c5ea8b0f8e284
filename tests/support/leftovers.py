"""Nothing outlives the tests: what a killed test process could not end itself is ended by a watcher that it started.

Every process of a test inherits a variable that names the test process. The watcher sees its parent go, and ends whatever still
carries the name: first by SIGTERM, so that platforms and engines end their own parts, then by SIGKILL.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psutil

ROOT = Path(__file__).parents[2]
VARIABLE = "NIGHTSHIFT_TEST_PROCESS"
POLL, GRACE = 0.5, 30.0
_WATCHERS: list[subprocess.Popen[bytes]] = []


def pytest_configure() -> None:
    """Name this process and have it watched."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    name = os.environ[VARIABLE] = uuid4().hex
    plain.pop(VARIABLE, None)
    words = [sys.executable, "-m", "tests.support.leftovers", name]
    _WATCHERS.append(subprocess.Popen(words, env=plain, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True))


def carrying(name: str) -> list[psutil.Process]:
    """Processes that a test process of this name has started, and theirs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) == name and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def end(name: str) -> None:
    """End whatever carries the name."""
    told: set[int] = set()
    deadline = time.monotonic() + GRACE
    while left := carrying(name):
        late = time.monotonic() > deadline
        for process in left:
            if late or process.pid not in told:
                told.add(process.pid)
                try:
                    process.kill() if late else process.terminate()
                except psutil.Error:
                    continue
        time.sleep(POLL)


def main(name: str) -> None:
    """Wait for the parent's end, then end what is left."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(POLL)
    end(name)


if __name__ == "__main__":
    main(sys.argv[1])
