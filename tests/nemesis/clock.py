"""A clock that may step: processes that follow it add the number in a file to what the system's clock says.

``python`` runs ``sitecustomize.py`` of the directory ``clock`` beside this module; a forked command calls :func:`follow`. What
ticks evenly (``time.monotonic``) does not step, as in the system.
"""

import datetime
import mmap
import os
import struct
import sys
import time
from pathlib import Path

VARIABLE = "NEMESIS_CLOCK"
DIRECTORY = Path(__file__).parent / "sitecustomize"


def write(path: Path, seconds: float) -> None:
    """Step the clock of all who follow it to so many seconds from the system's."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT), "r+b") as file:
        file.write(struct.pack("<d", seconds))


def follow() -> None:
    """From now on this process takes the time from the clock that its environment names, if it names one."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    with open(name, "rb") as file:  # noqa: PTH123 -- at the interpreter's start
        memory = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
    real, real_ns, real_datetime = time.time, time.time_ns, datetime.datetime

    def step() -> float:
        return float(struct.unpack("<d", memory[:8])[0])

    class Stepped(real_datetime):
        """The class of the library, whose present is another one."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real_datetime.fromtimestamp(time.time(), tz)

    time.time = lambda: real() + step()
    time.time_ns = lambda: real_ns() + int(step() * 1e9)
    # Libraries keep the class that they know: they compare types with it.
    for name, module in list(sys.modules.items()):
        if name.startswith("recsys") and getattr(module, "datetime", None) is real_datetime:
            module.datetime = Stepped
    sys.meta_path.insert(0, _Finder(real_datetime, Stepped))


class _Finder:
    """Lets modules of ``recsys`` that are imported later have the other class."""

    def __init__(self, real: type, stepped: type) -> None:
        self._real, self._stepped = real, stepped

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if not name.startswith("recsys"):
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: object) -> None:
            execute(module)
            if getattr(module, "datetime", None) is self._real:
                module.datetime = self._stepped

        spec.loader.exec_module = exec_module
        return spec
