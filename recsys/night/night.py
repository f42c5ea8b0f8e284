"""A night as a value: one log date and the settings, and everything that follows from them.

In go a log date and settings; out come the storage, the seed, the world and the names of the night's directories.
"""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import mmh3

from recsys.settings import Settings
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

#: What a night writes, and reads in a later attempt.
WRITTEN = (
    Dated.INTERACTIONS,
    Dated.MODELS,
    Dated.GATES,
    Dated.RECOMMENDATIONS,
    Dated.EXPERIMENTS,
    Dated.REPORTS,
    Dated.PROMOTIONS,
)


@dataclass(frozen=True)
class Night:
    """The night of one log date; two of the same date and settings are the same night."""

    log_date: date
    settings: Settings

    @cached_property
    def store(self) -> Storage:
        """Where everything of the night stands."""
        return Storage(self.settings.storage_url)

    @property
    def world(self) -> Path:
        """Directory of the world: the catalogue as it is now, and what the simulator needs."""
        return self.settings.world

    @property
    def seed(self) -> int:
        """What the night's random numbers are drawn from."""
        return night_seed(self.settings.seed, self.log_date)

    @property
    def logs(self) -> str:
        """Directory of the log date's logs."""
        return Dated.LOGS.on(self.log_date)

    @property
    def catalogue(self) -> str:
        """Directory of the log date's copy of the catalogue."""
        return Dated.CATALOGUES.on(self.log_date)

    @property
    def interactions(self) -> str:
        """Directory of what was collected."""
        return Dated.INTERACTIONS.on(self.log_date)

    @property
    def models(self) -> str:
        """Directory of what was trained."""
        return Dated.MODELS.on(self.log_date)

    @property
    def recommendations(self) -> str:
        """Directory of the candidate's lists."""
        return Dated.RECOMMENDATIONS.on(self.log_date)

    @property
    def experiment(self) -> str:
        """Directory of the experiment's logs."""
        return Dated.EXPERIMENTS.on(self.log_date)

    @property
    def report(self) -> str:
        """Directory of the A/B report."""
        return Dated.REPORTS.on(self.log_date)


def night_seed(seed: int, log_date: date) -> int:
    """A 32-bit hash of a base seed and a log date.

    >>> night_seed(31337, date(2026, 11, 23))
    1115311182
    """
    return mmh3.hash(f"{seed}:{log_date.isoformat()}", signed=False)
