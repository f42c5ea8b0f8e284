"""Nightshift: retrains, ships and A/B-tests a music recommender every night.

Everything here is plain Python; nothing in this package imports Airflow. The names in ``__all__`` are for other programs and do
not change without a note in CHANGELOG.md; each is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsys import frames
    from recsys.abtest.schema import Report
    from recsys.exceptions import RecsysError
    from recsys.experiments import Arm, Experiment
    from recsys.models.base import Recommender
    from recsys.night.night import Night
    from recsys.settings import Settings, load_settings
    from recsys.storage.store import Storage

__version__ = "0.1.0"

__all__ = [
    "Arm",
    "Experiment",
    "Night",
    "Recommender",
    "RecsysError",
    "Report",
    "Settings",
    "Storage",
    "__version__",
    "frames",
    "load_settings",
]

_MODULES = {
    "Arm": "recsys.experiments",
    "Experiment": "recsys.experiments",
    "Night": "recsys.night.night",
    "Recommender": "recsys.models.base",
    "RecsysError": "recsys.exceptions",
    "Report": "recsys.abtest.schema",
    "Settings": "recsys.settings",
    "Storage": "recsys.storage.store",
    "frames": "recsys.frames",
    "load_settings": "recsys.settings",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}; it has {', '.join(__all__)}")
    module = import_module(_MODULES[name])
    return module if name == "frames" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
