"""Lines for the person who started the platform, each with the seconds since the start."""

import time


class Console:
    """Prints lines such as ``[  12.3s] Valkey is ready``."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Print a line at once."""
        for line in text.splitlines():
            print(f"[{self.seconds:6.1f}s] {line}", flush=True)
