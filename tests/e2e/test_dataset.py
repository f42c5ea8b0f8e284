"""A small data set through the real service: killed in the middle and continued, it is that of an undisturbed collection."""

import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys.logs.upload import count_events
from recsys.settings import Settings, load_settings
from recsys.simulate.world import generate
from recsys.storage.store import Storage
from tests.support.components import Service, Valkey, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

DAY = date(2026, 1, 5)
SESSIONS = 3000


def place(directory: Path, world: Path, valkey: Valkey) -> dict[str, str]:
    return {
        "RECSYS_VAR": str(directory),
        "RECSYS_WORLD": str(world),
        "RECSYS_REDIS_URL": valkey.url,
        "RECSYS_SERVICE_LOGS": str(directory / "logs"),
    }


def command(environment: dict[str, str]) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "recsys.cli", "traffic", "--dataset", "--date", str(DAY), "--sessions", str(SESSIONS)]
    return subprocess.Popen(
        words, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(environment: dict[str, str]) -> dict:
    process = command(environment)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return dict(json.loads(output[output.index("{") :]))


@pytest.mark.drill("data set", "killed between parts", "the next run plays what is missing; same digest")
def test_a_killed_collection_continues_to_the_same_digest(tmp_path: Path, valkey: Valkey) -> None:
    world = tmp_path / "world"
    generate(world, tracks=2000, artists=400, users=300, seed=5)
    cards = []
    for name in ("disturbed", "undisturbed"):
        environment = place(tmp_path / name, world, valkey)
        with running(Service(environment)) as service:
            environment["RECSYS_SERVICE_URL"] = service.url
            if name == "disturbed":
                process = command(environment)
                parts = tmp_path / name / "parts"
                while not parts.is_dir() or len(list(parts.glob("*.json"))) < 3:
                    assert process.poll() is None
                    time.sleep(0.05)
                os.killpg(process.pid, 9)
                process.communicate()
                kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.json")}
                continued = command(environment)
                time.sleep(2)  # while it runs, the kept parts are not played again
                assert all((parts / n).stat().st_mtime_ns == t for n, t in kept.items() if (parts / n).exists())
                _, errors = continued.communicate(timeout=900)
                assert continued.returncode == 0, errors
                assert "was played before" in errors
            cards.append(finished(environment))
        settings = load_settings(var=tmp_path / name)
        check(settings, cards[-1])
    assert cards[0]["digest"] == cards[1]["digest"]


def check(settings: Settings, card: dict) -> None:
    store = Storage(settings.storage_url)
    directory = store.local(f"datasets/date={DAY}")
    plays, pairs = pq.read_table(directory / "plays.parquet"), pq.read_table(directory / "pairs.parquet")
    assert plays.column_names == ["user", "track", "time"]
    assert plays.num_rows == card["counts"]["events"]
    assert card["counts"]["sessions"] == SESSIONS
    assert pairs.num_rows == len({(r["user"], r["track"]) for r in plays.to_pylist() if r["time"] > 0.8})
    logged = [count_events(sorted(store.local(f"logs/date={day}").glob("*.jsonl"))) for day in card["log_dates"]]
    assert card["log_dates"] == ["2026-01-04", "2026-01-05"]
    assert sum(c["next"] + c["last"] for c in logged) == card["counts"]["events"]
    assert [policy["exploration"] for policy in card["policy"]] == [1.0, 1.0]
    assert 0 < card["propensity"]["exploration"]["min"] < 0.001
    assert not list((settings.var / "parts").glob("*.json"))
    assert not list((settings.var / "logs").iterdir())
