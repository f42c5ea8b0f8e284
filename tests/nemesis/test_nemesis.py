"""Some nights under faults that nobody scripted: none breaks the contract."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.real
@pytest.mark.marathon
@pytest.mark.timeout(3000)
def test_some_nights_under_faults(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.nemesis", "--nights", "8", "--seed", "6", "--keep", str(tmp_path / "nights")]
    played = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stdout[-8000:] + played.stderr[-2000:]
