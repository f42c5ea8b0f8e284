"""Nights with the session-aware arm, for real: it is played as T2, promoted with its version, and then serves what is live."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from recsys.abtest.schema import Report
from recsys.settings import load_settings
from recsys.simulate.world import generate
from recsys.storage.store import Storage
from tests.support.components import Service, Valkey, running

pytestmark = [pytest.mark.real, pytest.mark.marathon, pytest.mark.timeout(1800)]

DAY = date(2026, 1, 3)


def recsys(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "recsys.cli", *words], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def sources(store: Storage, day: date) -> Counter[str]:
    """What answered a date's traffic."""
    lines = [line for path in store.local(f"logs/date={day}").glob("*.jsonl") for line in path.read_text().splitlines()]
    return Counter(record["source"] for record in map(json.loads, lines) if record["message"] == "next")


def test_a_night_plays_the_session_aware_arm(tmp_path: Path, valkey: Valkey) -> None:
    generate(tmp_path / "world", tracks=2000, artists=400, users=300, seed=5)
    environment = {
        "RECSYS_WORLD": str(tmp_path / "world"),
        "RECSYS_VAR": str(tmp_path / "var"),
        "RECSYS_REDIS_URL": valkey.url,
        "RECSYS_SESSION_ARM": "1",
        "RECSYS_EXPERIMENTS": "config/experiments-session.yml",
        "OMP_NUM_THREADS": "1",
    }
    store = Storage(load_settings(var=tmp_path / "var").storage_url)
    with running(Service(environment)) as service:
        environment["RECSYS_SERVICE_URL"] = service.url
        for back in (2, 1, 0):
            recsys(environment, "traffic", "--date", str(DAY - timedelta(days=back)), "--sessions", "3000")
        recsys(environment, "nightly", "--date", str(DAY), "--episodes", "3000", "--promote")
        recsys(environment, "verify", "--date", str(DAY))
        arms = Report.read(store, DAY).arms
        assert list(arms) == ["C", "T1", "T2"]
        recsys(environment, "traffic", "--date", str(DAY + timedelta(days=1)), "--sessions", "1000")
        answered = sources(store, DAY + timedelta(days=1))
        assert answered["session"] > 5 * answered["exploration"] > 0
        recsys(environment, "nightly", "--date", str(DAY + timedelta(days=1)), "--episodes", "3000")
        arms = Report.read(store, DAY + timedelta(days=1)).arms
        assert list(arms) == ["C", "T1", "T2", "L"]
        assert service.post("/next/1", {"track": 1, "time": 1.0})[0] == 200
