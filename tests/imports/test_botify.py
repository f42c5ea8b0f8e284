"""Logs of the original server: what they say stays, in the form of any year."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import requests

from benchmarks import processes
from benchmarks.content import prepare
from benchmarks.measure import Bench
from benchmarks.rows import log_rows
from recsys.exceptions import CorruptDataError, InvalidInputError, WorldError
from recsys.imports import botify
from recsys.imports.steps import import_botify
from recsys.logs.record import FIELDS, IDENTIFIER, MESSAGE, TIME
from recsys.night.collect import collect
from recsys.night.night import Night
from recsys.settings import Settings
from recsys.simulate.world import generate
from recsys.storage.store import Storage
from tests.support.imports import contents, lines, plays, settings_in
from tests.support.night import write_world

NIGHT = int(datetime(2022, 4, 5, 23, 59, 59, 990_000, UTC).timestamp() * 1000)


def line(message: str, after: int, user: int, track: int, time: float, **others: object) -> str:
    told = {"message": message, "timestamp": NIGHT + after, "user": user, "track": track, "time": time} | others
    return json.dumps(told) + "\n"


#: Sessions as the server of 2022 logged them, and one of 2024 beside them, which goes on after midnight.
OF_2022 = (
    line("next", 0, 7, 3, 1.0)
    + line("next", 1, 7, 5, 0.81, latency=0.0004)
    + line("last", 2, 7, 6, 0.8, latency=0.0001)
    + line("next", 3, 7, 6, 0.9)
)
OF_2024 = (
    line("next", 0, 8, 3, 1, latency=0.0025, recommendation=9, experiments={"HW": "C"})
    + line("next", 10, 8, 9, 0.0, latency=6e-05, recommendation=None, experiments={})
    + line("last", 20, 8, 2, 1.0, latency=6e-05, recommendation=None, experiments={"HW": "C"})
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = settings_in(tmp_path)
    write_world(found.world, tracks=10, users=1)
    return found


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def pairs_by_pandas(*files: Path) -> set[tuple[int, int]]:
    rows = pd.concat([pd.read_json(file, lines=True) for file in files])
    liked = rows[rows["time"] > 0.8][["user", "track"]].drop_duplicates()
    return {(int(user), int(track)) for user, track in liked.to_numpy()}


def pairs_of_a_night(settings: Settings, day: date) -> set[tuple[int, int]]:
    night = Night(day, settings)
    collect(night)
    table = pq.read_table(night.store.local(night.interactions) / "interactions.parquet", columns=["user", "track"])
    return set(zip(*table.to_pydict().values(), strict=True))


def test_lines_of_2022_and_2024(settings: Settings, tmp_path: Path) -> None:
    files = write(tmp_path / "data.json", OF_2022), write(tmp_path / "data.json.1", OF_2024)
    before = contents(settings.world)
    card = import_botify(settings, files)
    assert contents(settings.world) == before
    assert (card.plays, card.users, card.sessions, card.new_tracks, card.left_out) == (7, 2, 4, 0, {})
    found = lines(settings)
    assert list(found) == ["2022-04-05", "2022-04-06"]
    assert all(tuple(record) == FIELDS[:16] for records in found.values() for record in records)
    told = [(r["user"], r["session"], r["step"], r["message"], r["track"], r["time"]) for r in found["2022-04-05"]]
    assert told == [
        (7, 0, 0, "next", 3, 1.0),
        (7, 0, 1, "next", 5, 0.81),
        (7, 0, 2, "last", 6, 0.8),
        (7, 1, 0, "next", 6, 0.9),
        (8, 0, 0, "next", 3, 1.0),
    ]
    assert [(r["session"], r["step"], r["message"]) for r in found["2022-04-06"]] == [(0, 1, "next"), (0, 2, "last")]
    answers = [(r["latency"], r["recommendation"], r["experiments"]) for r in [*found["2022-04-05"], *found["2022-04-06"]]]
    assert answers == [
        (None, None, {}), (0.0004, None, {}), (0.0001, None, {}), (None, None, {}),
        (0.0025, 9, {"HW": "C"}), (0.00006, None, {}), (0.00006, None, {"HW": "C"}),
    ]  # fmt: skip
    assert Storage(settings.storage_url).manifest("logs/date=2022-04-06").counts["episodes"] == 1
    assert pairs_of_a_night(settings, date(2022, 4, 6)) == pairs_by_pandas(*files)
    assert import_botify(settings, files).written == 0


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"message": "stop"}, MESSAGE),
        ({"message": None}, MESSAGE),
        ({"user": "7"}, IDENTIFIER),
        ({"user": -1}, IDENTIFIER),
        ({"user": 2**63}, IDENTIFIER),
        ({"track": 1.5}, IDENTIFIER),
        ({"track": None}, IDENTIFIER),
        ({"track": 10}, botify.UNKNOWN_TRACK),
        ({"time": 1.2}, TIME),
        ({"time": "1"}, TIME),
        ({"time": None}, TIME),
        ({"timestamp": None}, "time is no time"),
        ({"timestamp": 2**62}, "time is no time"),
    ],
)
def test_a_line_that_is_none(changed: dict[str, object], why: str, settings: Settings, tmp_path: Path) -> None:
    wrong = json.loads(line("next", 0, 7, 3, 1.0)) | changed
    before = contents(settings.var)
    with pytest.raises(CorruptDataError, match=f"1 of 5 rows are malformed .1 {why}, as row 5 of data.json"):
        import_botify(settings, [write(tmp_path / "data.json", OF_2022 + json.dumps(wrong) + "\n")])
    assert contents(settings.var) == before


def test_a_table_is_no_log(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no log of the original"):
        import_botify(settings, [write(tmp_path / "a.csv", "user,track\n1,2\n")])


def test_tracks_are_numbers_of_a_catalogue_that_must_be_there(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with pytest.raises(WorldError, match=r"its tracks\.json must be in the world"):
        import_botify(settings, [write(tmp_path / "data.json", OF_2022)])
    assert not settings.var.exists()


@pytest.mark.slow
def test_sessions_of_many_lines_are_those_that_were_played(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    files = log_rows(Bench(tmp_path, True, tmp_path, tmp_path / "cache"), 6000)
    settings = settings_in(tmp_path)
    write_world(settings.world, tracks=50_000, users=1)
    import_botify(settings, [files / "original.json"])
    theirs = [json.loads(line) for line in (files / "ours" / "0-bench.jsonl").read_text().splitlines()]
    kept = ("message", "timestamp", "user", "track", "time", "latency", "recommendation", "experiments", "session", "step")
    wanted = sorted([record[name] for name in kept if name != "experiments"] for record in theirs)
    assert sorted([record[name] for name in kept if name != "experiments"] for record in plays(settings)) == wanted
    assert {json.dumps(record["experiments"]) for record in plays(settings)} == {json.dumps(r["experiments"]) for r in theirs}


@pytest.mark.real
@pytest.mark.slow
def test_what_the_reference_server_logs(tmp_path: Path) -> None:
    generate(tmp_path / "world", tracks=600, artists=120, users=80)
    for name in ("scratch", "cache"):
        (tmp_path / name).mkdir()
    bench, port = Bench(tmp_path / "world", True, tmp_path / "scratch", tmp_path / "cache"), processes.free_port()
    files = prepare(bench)
    with processes.valkey(bench.scratch, port=port), processes.reference_service(bench.scratch, files, port) as (url, _):
        for user in range(20):
            track = user
            for step in range(5):
                body = {"track": track, "time": (user + step) % 11 / 10}
                track = requests.post(f"{url}/next/{user}", json=body, timeout=5).json()["track"]
            requests.post(f"{url}/last/{user}", json={"track": track, "time": 0.9}, timeout=5)
    (log,) = bench.scratch.glob("reference-*.json")
    settings = settings_in(tmp_path).model_copy(update={"world": tmp_path / "world"})
    card = import_botify(settings, [log])
    assert (card.plays, card.sessions, card.left_out) == (120, 20, {})
    last = date.fromisoformat(card.dates[-1])
    assert pairs_of_a_night(settings, last) == pairs_by_pandas(log)
