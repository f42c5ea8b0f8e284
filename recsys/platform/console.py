"""Lines for the person who started the platform, each with the seconds since the start."""

import time
from contextlib import suppress


class Console:
    """Prints lines such as ``[  12.3s] Valkey is ready``."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Print a line at once; a terminal or a reader that has gone is no reason to stop short of ending everything."""
        with suppress(OSError):
            for line in text.splitlines():
                print(f"[{self.seconds:6.1f}s] {line}", flush=True)
