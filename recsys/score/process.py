"""The process in which a model is fitted: it ends in time, with the command, and with whatever it has started.

In goes a job; out comes what :mod:`recsys.score.fit` writes, or an error of one line.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from recsys.exceptions import InvalidInputError, RecsysError, UnavailableError
from recsys.score.fit import ERROR, FITTED, Arrays, Job

LOG = "fit.log"
#: Seconds between looks at the process.
PAUSE = 0.1


def run(job: Job, directory: Path, limit: float, tick: Callable[[], None]) -> Arrays:
    """Fit in a process of its own, in a directory that holds what the job needs.

    Args:
        limit: seconds that it may take. tick: called while it runs.

    Raises:
        InvalidInputError: the model breaks its interface, fails, or takes too long. UnavailableError: something ended it.
        RecsysError: it failed by one of our own errors, which has kept its exit status.
    """
    job.write(directory)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    words = [sys.executable, "-P", "-m", "recsys.score.fit", str(directory)]
    deadline = time.monotonic() + limit
    with (directory / LOG).open("wb") as log:
        process = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )  # fmt: skip
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise InvalidInputError(
                        f"model {job.model!r} was not ready with {job.data} within {limit:g} s; give it more by --limit"
                    )
                tick()
                time.sleep(PAUSE)
        finally:
            # Its session, so that nothing which the model has started goes on.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise _failure(job, directory, process.returncode)
    with np.load(directory / FITTED, allow_pickle=False) as saved:
        return dict(saved)


def _failure(job: Job, directory: Path, status: int) -> RecsysError:
    if status < 0:
        name = signal.Signals(-status).name
        hint = "; memory may be used up" if -status == signal.SIGKILL else ""
        return UnavailableError(f"the process of model {job.model!r} with {job.data} was ended by {name}{hint}")
    try:
        told = (directory / ERROR).read_text()
    except FileNotFoundError:
        lines = (directory / LOG).read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")
        return InvalidInputError(f"model {job.model!r} ended its process with status {status}: {last[:300]}")
    kinds = {kind.exit_code: kind for kind in RecsysError.__subclasses__()}
    return kinds.get(status, RecsysError)(told if job.data in told else f"{told} ({job.data})")
