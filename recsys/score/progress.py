"""How far a score is: a bar on a terminal, a line a step in a log."""

import logging

from tqdm import tqdm

log = logging.getLogger(__name__)


class Steps:
    """Reports steps out of ``total``."""

    def __init__(self, total: int) -> None:
        self._bar = tqdm(
            total=total, unit="step", disable=None, leave=False, bar_format="{n}/{total} |{bar:20}| {elapsed} {desc}"
        )
        self._total, self._begun = total, 0

    def begin(self, what: str) -> None:
        """The next step begins, and the one before it has ended."""
        self._bar.update(int(self._begun > 0))
        self._begun += 1
        self._bar.set_description_str(what)
        if self._bar.disable:
            log.info("step %d of %d: %s", self._begun, self._total, what)

    def tick(self) -> None:
        """The step goes on."""
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
