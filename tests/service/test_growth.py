"""The catalogue grows and shrinks under a running service: nobody notices, new tracks are answered, retired ones never again."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recsys.experiments import Arm, Experiment, RunSpec
from recsys.service.app import WORLD_EVERY
from recsys.versions import keyspace, pointer, publish
from recsys.versions.content import Content
from recsys.versions.runs import open_run
from tests.service.test_anybody import metric
from tests.service.test_service import DAY, TRACKS, Stage, serving, wait_until
from tests.service.test_session import lists
from tests.support.components import Valkey
from tests.support.tracks import tracks_of, write_tracks

pytestmark = pytest.mark.real

EXPERIMENTS = """
experiment: FOUR
arms:
  - {name: C, recommender: contextual}
  - {name: T1, recommender: dae}
  - {name: T2, recommender: session}
  - {name: P, recommender: top100}
"""
LISTENERS = 500
RUN = {"X-Recsys-Run": "old.0.a"}


@pytest.fixture
def stage(tmp_path: Path, valkey: Valkey) -> Iterator[Stage]:
    """Two workers, four arms and exploration; every other listener is known."""
    (tmp_path / "experiments.yml").write_text(EXPERIMENTS)
    more = {"RECSYS_EXPERIMENTS": str(tmp_path / "experiments.yml"), "RECSYS_LIVE_EXPLORATION": "0.3"}
    with serving(tmp_path, valkey, workers=2, output=tmp_path / "output", **more) as stage:
        rng = np.random.default_rng(1)
        known = {user: keyspace.pack(rng.permutation(TRACKS)[:50]) for user in range(0, LISTENERS, 2)}
        near = np.array([[(track + k + 1) % TRACKS for k in range(20)] for track in range(TRACKS)], dtype="<u4")
        sessions = lists(rows=20, width=60, size=TRACKS).to_bytes()
        content = Content(known, keyspace.pack(range(100)), near.tobytes(), sessions)
        stage.version = publish.publish_version(stage.client, content, DAY)
        pointer.move(stage.client, stage.version, DAY, who="t", why="w")
        wait_until(lambda: all(stage.service.get("/readyz")[1]["live"] == stage.version for _ in range(20)))
        yield stage


@pytest.fixture
def directory(stage: Stage) -> Path:
    return stage.logs.parent / "world"


def play(stage: Stage, steps: int, **headers: str) -> list[dict]:
    """The lines of so many answers to each listener."""
    run = headers.get("X-Recsys-Run", "live")
    before = len(stage.records(run))
    tracks = [user % 50 for user in range(LISTENERS)]
    for _ in range(steps):
        events = [{"message": "next", "user": user, "track": tracks[user], "time": 0.5} for user in range(LISTENERS)]
        status, answer = stage.service.post("/batch", {"events": events}, **headers)
        assert status == 200
        tracks = [each["track"] for each in answer["answers"]]
    return sorted(stage.records(run), key=lambda record: record["timestamp"])[before:]


def taken(stage: Stage, track: int, available: bool = True) -> bool:
    """Whether all workers know a track, by the look of it, as available or not."""
    answers = [stage.service.get(f"/track/{track}") for _ in range(20)]
    return all(status == 200 and body.get("available", True) is available for status, body in answers)


def test_a_thousand_tracks_are_appended_under_requests(stage: Stage, directory: Path) -> None:
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        number = 0
        while not over.is_set():
            number += 1
            user = number % LISTENERS if number % 2 else f"new-{number}"
            statuses.append(stage.service.post(f"/next/{user}", {"track": number % (TRACKS + 1000), "time": 0.5})[0])

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    time.sleep(1)
    appended = time.monotonic()
    write_tracks(directory, tracks_of(TRACKS + 1000))
    wait_until(lambda: any((r["recommendation"] or 0) >= TRACKS for r in stage.records("live")), 10)
    wait_until(lambda: taken(stage, TRACKS + 999), 10 - (time.monotonic() - appended))
    over.set()
    for asker in askers:
        asker.join()
    assert set(statuses) == {200}
    assert len(stage.records("live")) == len(statuses)
    assert metric(stage, "recsys_tracks") == TRACKS + 1000
    new = [record for record in stage.records("live") if (record["recommendation"] or 0) >= TRACKS]
    assert {record["source"] for record in new} == {"exploration"}
    assert {record["propensity"] for record in new} <= {0.3 / (TRACKS + 1000 - n) for n in range(1, 200)}


def test_a_retired_track_is_in_no_answer(stage: Stage, directory: Path) -> None:
    retired = {track for track in range(TRACKS) if track % 3 == 0}
    write_tracks(directory, [line | {"available": line["track"] not in retired} for line in tracks_of(TRACKS)])
    wait_until(lambda: taken(stage, 3, available=False), 10)
    records = play(stage, 10)
    assert len(records) == 10 * LISTENERS
    sources = {record["source"] for record in records}
    assert sources == {"contextual", "dae", "session", "newcomer_session", "top100", "exploration"}
    assert not retired & {record["recommendation"] for record in records}
    first = [record for record in records if record["source"] == "exploration" and record["step"] == 0]
    assert len(first) > 50
    # Of 200 available tracks one has been played, or a retired one; what the arm offers, too, is likelier.
    uniform = [0.3 / (200 - (record["track"] not in retired)) for record in first]
    exact = [record["propensity"] == share for record, share in zip(first, uniform, strict=True)]
    assert sum(exact) > len(first) * 0.6
    assert all(record["propensity"] >= share for record, share in zip(first, uniform, strict=True))
    _, told = stage.service.get("/track/5")
    assert told["recommendations"] == [track for track in range(6, 26) if track % 3]
    assert stage.service.get("/track/3")[1]["available"] is False


def test_a_run_is_served_from_its_own_catalogue(stage: Stage, directory: Path) -> None:
    arms = tuple(Arm(name, name, stage.version) for name in ("contextual", "dae", "session", "top100"))
    experiment = Experiment("X", arms)
    open_run(stage.client, RunSpec("old", stage.version, 0.3, 7, experiment, TRACKS, (7, 8)))
    write_tracks(directory, [line | {"available": line["track"] not in (1, 2)} for line in tracks_of(TRACKS + 50)])
    wait_until(lambda: taken(stage, TRACKS + 49) and taken(stage, 1, available=False), 10)
    answered = {record["recommendation"] for record in play(stage, 10, **RUN)}
    assert {1, 2} <= answered
    assert not answered & {7, 8, *range(TRACKS, TRACKS + 50)}
    assert stage.service.post("/next/1", {"track": TRACKS, "time": 0.5}, **RUN)[0] == 400
    assert stage.service.post("/next/1", {"track": 7, "time": 0.5}, **RUN)[0] == 200


def test_a_run_that_has_retired_everything_is_refused(stage: Stage) -> None:
    open_run(stage.client, RunSpec("old", stage.version, 0.3, 7, None, 5, (0, 1, 2, 3, 4)))
    status, answer = stage.service.post("/next/1", {"track": 1, "time": 0.5}, **RUN)
    assert status == 404
    assert "all its tracks are retired" in answer["error"]["message"]


def test_another_world_is_told_and_not_taken(stage: Stage, directory: Path, tmp_path: Path) -> None:
    path = directory / "tracks.json"
    before = path.read_bytes()
    path.write_bytes(before[:-5])
    wait_until(
        lambda: all("tracks.json cannot be taken" in (stage.service.get("/readyz")[1]["trouble"] or "") for _ in range(9)), 10
    )
    path.write_text("".join(json.dumps(line | {"artist": "another"}) + "\n" for line in tracks_of(TRACKS)))
    wait_until(lambda: all("'another - t0'" in (stage.service.get("/readyz")[1]["trouble"] or "") for _ in range(9)), 10)
    assert stage.service.get("/readyz")[0] == 200
    assert stage.service.get("/track/0")[1]["artist"] == "a0"
    assert metric(stage, "recsys_world_refused") == 1
    assert (tmp_path / "output").read_text().count("tracks.json has changed, but cannot be taken") == 2, "one line a worker"
    path.write_bytes(before)
    wait_until(lambda: not any(stage.service.get("/readyz")[1]["trouble"] for _ in range(9)), 10)
    time.sleep(WORLD_EVERY)
    assert metric(stage, "recsys_world_refused") == 0


def test_tracks_go_by_their_owners_ids(stage: Stage, directory: Path) -> None:
    lines = [line | ({"id": f"song {line['track']}"} if line["track"] % 2 else {}) for line in tracks_of(TRACKS)]
    write_tracks(directory, lines)
    wait_until(lambda: all(stage.service.get("/track/song%20299")[0] == 200 for _ in range(20)), 10)
    assert stage.service.get("/track/song%20299")[1] == stage.service.get("/track/299")[1]
    assert stage.service.get("/track/299")[1]["id"] == "song 299"
    assert stage.service.get("/track/song%20300")[0] == stage.service.get("/track/300")[0] == 404
    for headers in ({}, {"X-Recsys-Run": "night.0.ids"}):
        for user in range(40):
            track: str | int = "song 151"
            for _ in range(3):
                status, answer = stage.service.post(f"/next/{user}", {"track": track, "time": 0.5}, **headers)
                assert status == 200
                assert answer.get("id") == (f"song {answer['track']}" if answer["track"] % 2 else None)
                track = answer.get("id", answer["track"])
    for records in (stage.records("live"), stage.records("night.0.ids")):
        place = {(record["user"], record["step"]): record for record in records}
        assert {place[user, 0]["track"] for user in range(40)} == {151}
        assert all(place[user, 1]["track"] == place[user, 0]["recommendation"] for user in range(40))
        assert not any("track_id" in record for record in records)


def test_the_originals_neighbours_serve_what_a_version_does_not_know(stage: Stage, directory: Path) -> None:
    write_tracks(directory, tracks_of(TRACKS + 2))
    lines = [{"track": track, "recommendations": list(range(100, 200))} for track in range(TRACKS + 2)]
    (directory / "tracks_recs.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    offered = list(range(100, 200))
    wait_until(lambda: all(stage.service.get(f"/track/{TRACKS}")[1].get("recommendations") == offered for _ in range(20)), 15)
    assert stage.service.get("/track/5")[1]["recommendations"] == list(range(6, 26))
    events = [{"message": "next", "user": user, "track": TRACKS, "time": 0.5} for user in range(LISTENERS)]
    answers = stage.service.post("/batch", {"events": events})[1]["answers"]
    found = [r for r in stage.records("live")[-LISTENERS:] if r["source"] == "contextual"]
    assert len(answers) == LISTENERS
    assert len(found) > 30
    assert {record["recommendation"] for record in found} <= set(offered)
    assert {round(record["propensity"], 9) for record in found} == {round(0.7 / 100 + 0.3 / (TRACKS + 1), 9)}
