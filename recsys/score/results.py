"""Results that are kept between runs, each under a digest of everything that it follows from.

In go an identity and what computes a result; out come arrays, computed once.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from recsys.score.fit import Arrays


class Results:
    """A directory of results; one that cannot be read is computed again.

    Args:
        rebuild: compute all of them again, once.
    """

    def __init__(self, directory: Path, *, rebuild: bool = False) -> None:
        self._directory, self._rebuild = directory, rebuild
        self._seen: dict[str, Arrays] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def of(self, identity: Mapping[str, object], compute: Callable[[], Arrays]) -> Arrays:
        """The result of an identity, JSON-ready."""
        key = _key(identity)
        found = self._find(key)
        if found is None:
            found = compute()
            partial = self._directory / f".{key}.{os.getpid()}.npz"
            try:
                np.savez_compressed(partial, allow_pickle=False, **found)
                partial.replace(self._directory / f"{key}.npz")
            finally:
                partial.unlink(missing_ok=True)
            self._seen[key] = found
        return found

    def _find(self, key: str) -> Arrays | None:
        if key not in self._seen and not self._rebuild:
            try:
                with np.load(self._directory / f"{key}.npz", allow_pickle=False) as saved:
                    self._seen[key] = dict(saved)
            except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
                return None
        return self._seen.get(key)


def _key(identity: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
