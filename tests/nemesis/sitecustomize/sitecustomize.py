"""Run by ``python`` at its start where this directory is on the path: this process follows the clock that may step."""

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("nemesis_clock", Path(__file__).parents[1] / "clock.py")
_CLOCK = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CLOCK)
_CLOCK.follow()
