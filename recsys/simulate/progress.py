"""How far a simulation is: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time

from tqdm import tqdm

log = logging.getLogger(__name__)

#: A log line appears after this share of the episodes, but not sooner than after these seconds.
SHARE, SECONDS = 0.05, 5.0


class Progress:
    """Reports ended episodes out of ``total``; silent if not ``enabled``."""

    def __init__(self, total: int, *, enabled: bool = True) -> None:
        self._total = total
        self._enabled = enabled and total > 0
        self._started = self._spoke = time.monotonic()
        self._said = 0
        self._bar = tqdm(total=total, unit="episode") if self._enabled and sys.stderr.isatty() else None

    def update(self, ended: int) -> None:
        """Tell how many episodes have ended so far."""
        if self._bar is not None:
            self._bar.update(ended - self._bar.n)
        elif self._enabled and ended - self._said >= SHARE * self._total:
            now = time.monotonic()
            if now - self._spoke >= SECONDS or ended == self._total:
                self._spoke, self._said = now, ended
                rate = ended / max(now - self._started, 1e-9)
                log.info("%d of %d episodes (%d %%), %.0f a second", ended, self._total, 100 * ended // self._total, rate)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
