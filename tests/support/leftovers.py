"""Nothing outlives the tests: what a killed test process could not end itself is ended by a watcher that it started.

The watcher notes the test process's descendants while it lives. Those that leave their parents it knows by a variable that all
inherit; some programs overwrite their environment, so one way alone would not do. When the test process is gone it ends them:
first by SIGTERM, so that platforms and engines end their own parts, then by SIGKILL.
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
POLL, GRACE = 5.0, 30.0
_WATCHERS: list[subprocess.Popen[bytes]] = []


def pytest_configure() -> None:
    """Name this process and have it watched."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    name = os.environ[VARIABLE] = uuid4().hex
    plain.pop(VARIABLE, None)
    words = [sys.executable, "-m", "tests.support.leftovers", name]
    _WATCHERS.append(subprocess.Popen(words, env=plain, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True))


def descendants(process: psutil.Process) -> set[psutil.Process]:
    """What a process has started, and they in turn; without this process."""
    try:
        return set(process.children(recursive=True)) - {psutil.Process()}
    except psutil.NoSuchProcess:
        return set()


def carrying(name: str) -> set[psutil.Process]:
    """Processes in whose environment the name stands."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) == name:
                found.add(process)
        except psutil.Error:
            continue
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether it is still that process, and runs."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(name: str, known: set[psutil.Process]) -> None:
    """End processes, and whatever carries the name."""
    deadline, told = time.monotonic() + GRACE, set[psutil.Process]()
    while left := {process for process in known | carrying(name) if is_alive(process)}:
        known |= left | {child for process in left for child in descendants(process)}
        for process in left:
            try:
                if time.monotonic() > deadline:
                    process.kill()
                elif process not in told:
                    process.terminate()
            except psutil.NoSuchProcess:
                continue
        told |= left
        time.sleep(0.2)


def main(name: str) -> None:
    """Watch until the parent is gone, then end what it has left."""
    parent = psutil.Process(os.getppid())
    known: set[psutil.Process] = set()
    while os.getppid() == parent.pid:
        known = {process for process in known if is_alive(process)} | descendants(parent)
        time.sleep(POLL)
    end(name, known)


if __name__ == "__main__":
    main(sys.argv[1])
