"""Child processes that end together: each is the leader of a session of its own, and ``<var>/platform.json`` names them all.

A session survives its leader, so that every descendant is found and ended even if the leader died first. A process counts as
ours only if its start time is the recorded one: a process id that the system has given away again is left alone.
"""

import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import Field, TypeAdapter, ValidationError

from recsys.exceptions import ConflictError, UnavailableError, stopped_by_signals

log = logging.getLogger(__name__)

#: Seconds from SIGTERM to SIGKILL.
GRACE = 8.0
#: PostgreSQL would wait for its clients after SIGTERM.
ENDED_BY = {"postgres": signal.SIGINT}
#: A process that ends is started again, but not more often than this within so many seconds.
RESTARTS, RESTART_SECONDS = 3, 600.0
TAIL_LINES = 15
#: Bytes at which a log begins anew; the full one is kept beside it until the next is full. So many days are kept of others.
LOG_BYTES, LOG_DAYS = 5_000_000, 7


@dataclass(frozen=True)
class Recorded:
    """A process as the state file names it; ``started`` in seconds since the epoch."""

    name: str
    pid: Annotated[int, Field(gt=0, lt=2**31)]
    started: float


class Processes:
    """Starts, watches and ends the platform's processes.

    Args:
        var: directory of the state file and of the logs.
    """

    def __init__(self, var: Path) -> None:
        self._state = var / "platform.json"
        self._logs = var / "log"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[Sequence[str], Mapping[str, str], Path]] = {}
        self._restarts: dict[str, list[float]] = {}
        self._strangers = {child.pid for child in psutil.Process().children()}
        self._recorded = [recorded("platform", os.getpid())]
        self._write()

    def start(self, name: str, words: Sequence[str], environment: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
        """Start a process; what it prints goes to ``log/<name>.log``."""
        with self.log_file(name).open("ab") as output:
            child = subprocess.Popen(
                list(words), env=dict(environment), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._children[name] = child
        self._commands[name] = words, environment, cwd
        self._recorded.append(recorded(name, child.pid))
        self._write()
        return child

    def log_file(self, name: str) -> Path:
        """Where a process writes."""
        return self._logs / f"{name}.log"

    def turn_logs(self) -> None:
        """Empty every log that is full after copying it: its writer appends, and knows nothing of it."""
        for name in self._children:
            file = self.log_file(name)
            if file.stat().st_size >= LOG_BYTES:
                shutil.copyfile(file, file.with_suffix(".log.1"))
                os.truncate(file, 0)

    @staticmethod
    def forget_days(directory: Path) -> None:
        """Keep the last days of logs that stand in a directory a day, named by their dates."""
        for day in sorted(directory.glob("????-??-??"))[:-LOG_DAYS]:
            shutil.rmtree(day, ignore_errors=True)

    def check(self) -> None:
        """See that every process still runs.

        Raises:
            UnavailableError: one has ended.
        """
        for name, child in self._children.items():
            if child.poll() is not None:
                raise self.failure(name, f"{name} ended with status {child.returncode}")

    def revive(self) -> list[str]:
        """Start processes that have ended again, after what is left of their sessions; returns their names.

        Raises:
            UnavailableError: one ends again and again.
        """
        ended = [(name, child.returncode) for name, child in self._children.items() if child.poll() is not None]
        for name, status in ended:
            now = time.monotonic()
            times = [t for t in self._restarts.get(name, []) if now - t < RESTART_SECONDS]
            if len(times) == RESTARTS:
                raise self.failure(name, f"{name} ended with status {status} for the {RESTARTS + 1}th time")
            self._restarts[name] = [*times, now]
            end([r for r in self._recorded if r.name == name])
            self.start(name, *self._commands[name])
        return [name for name, _ in ended]

    def wait(self, name: str) -> None:
        """Wait for a process that ends by itself.

        Raises:
            UnavailableError: it failed.
        """
        child = self._children[name]
        while child.poll() is None:
            time.sleep(0.05)
        del self._children[name]
        if child.returncode != 0:
            raise self.failure(name, f"{name} ended with status {child.returncode}")

    def wait_until(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until a process is ready.

        Raises:
            UnavailableError: it is not within so many seconds, or any process has ended.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise self.failure(name, f"{name} was not ready within {seconds:.0f} s")
            time.sleep(0.05)

    def failure(self, name: str, what: str) -> UnavailableError:
        """An error whose message ends with the last lines of the process's log."""
        file = self.log_file(name)
        lines = file.read_text(errors="replace").splitlines()[-TAIL_LINES:] if file.exists() else []
        return UnavailableError("\n".join([f"{what}; the end of {file}:", *(f"  {line}" for line in lines)]))

    def stop(self, last: Collection[str] = ()) -> None:
        """End everything; the processes called ``last`` after all others."""
        known = {r.pid for r in self._recorded} | self._strangers
        # A signal may have come after a child was started and before it was noted.
        late = [recorded("late", child.pid) for child in psutil.Process().children() if child.pid not in known]
        end([r for r in self._recorded[1:] if r.name not in last] + late)
        end([r for r in self._recorded[1:] if r.name in last])
        for child in self._children.values():
            child.wait()
        self._state.unlink(missing_ok=True)

    def _write(self) -> None:
        partial = self._state.with_suffix(".partial")
        partial.write_text(json.dumps([asdict(r) for r in self._recorded], indent=1))
        partial.rename(self._state)


@contextmanager
def sole_owner(var: Path, tell: Callable[[str], None] = log.info) -> Iterator[Callable[[], None]]:
    """Hold the directory while the block runs; what a killed owner has left running is ended first.

    SIGINT, SIGTERM and SIGHUP raise :class:`recsys.exceptions.Stopped`; gives a function after which they are ignored.

    Raises:
        ConflictError: another command holds it.
    """
    var.mkdir(parents=True, exist_ok=True)
    with (var / "platform.lock").open("w") as lock, stopped_by_signals() as ignore:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another command runs Valkey on {var}; leave out --embedded to work beside it, end it ('make down' does too), "
                "or name another directory by RECSYS_VAR"
            ) from None
        left = read_state(var)
        if left:
            tell(f"What ran here was killed; ending {', '.join(r.name for r in left)}")
            end(left)
        yield ignore


def read_state(var: Path) -> list[Recorded]:
    """Processes that the state file names and that still exist, or whose session does."""
    file = var / "platform.json"
    try:
        recorded = TypeAdapter(list[Recorded]).validate_json(file.read_bytes(), strict=True)
    except FileNotFoundError:
        return []
    except ValidationError:
        log.warning("%s cannot be read; nothing can be ended from it", file)
        return []
    sessions = _sessions()
    return [r for r in recorded if _members(r, sessions)]


def end(recorded: Sequence[Recorded]) -> None:
    """End processes with their whole sessions: :data:`ENDED_BY` or SIGTERM, then SIGKILL after :data:`GRACE` seconds."""
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        told: set[int] = set()
        while True:
            sessions = _sessions()
            alive = {pid: r.name for r in recorded for pid in _members(r, sessions)}
            if not alive:
                return
            if time.monotonic() > deadline:
                break
            for pid, name in alive.items():
                if pid not in told:
                    told.add(pid)
                    _signal(pid, ENDED_BY.get(name, number) if number == signal.SIGTERM else number)
            time.sleep(0.1)


def is_running(recorded: Recorded) -> bool:
    """Whether the very process still runs."""
    return _started(recorded.pid) == recorded.started


def recorded(name: str, pid: int) -> Recorded:
    """A process as it is now."""
    return Recorded(name, pid, _started(pid) or 0.0)


def _started(pid: int) -> float | None:
    """Start time of a living process; None if there is none."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _sessions() -> dict[int, list[int]]:
    """Living processes by session."""
    sessions: dict[int, list[int]] = {}
    for pid in psutil.pids():
        try:
            session = os.getsid(pid)
        except (ProcessLookupError, PermissionError):
            continue
        sessions.setdefault(session, []).append(pid)
    return sessions


def _members(recorded: Recorded, sessions: Mapping[int, list[int]]) -> list[int]:
    """Living processes of the recorded one's session; none if its id now belongs to somebody else."""
    started = _started(recorded.pid)
    if started is not None and started != recorded.started:
        return []
    if recorded.name == "platform":  # Its session is the terminal's.
        return [recorded.pid] if started is not None else []
    return [pid for pid in sessions.get(recorded.pid, []) if _started(pid) is not None]


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        log.debug("process %d has ended already", pid)
