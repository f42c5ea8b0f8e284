"""The other libraries' environment: a lock in, an interpreter out."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from recsys.exceptions import UnavailableError

LOCK = Path(__file__).with_name("requirements.lock")


def interpreter() -> Path:
    """The Python of an environment with what the lock names, below ``RECSYS_VAR``; built once for each lock.

    Raises:
        UnavailableError: it cannot be built; what uv says stands on standard error.
    """
    key = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    home = Path(os.environ.get("RECSYS_VAR", "var")).resolve() / "benchmarks" / f"public-{key}"
    python, stamp = home / "bin" / "python", home / ".installed"
    if not stamp.exists():
        uv = Path(sys.executable).with_name("uv")
        make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, home]
        fill = [uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", LOCK]
        for words in (make, fill):
            if not uv.exists() or subprocess.run(words, check=False).returncode:
                raise UnavailableError(f"no environment with the packages of {LOCK.name} can be built in {home}; try make setup")
        stamp.touch()
    return python
