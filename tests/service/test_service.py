"""The service as a client sees it: a real process, a real Valkey, HTTP."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from recsys.experiments import Arm, Experiment, RunSpec
from recsys.logs.record import FIELDS
from recsys.settings import load_settings
from recsys.versions import keyspace, pointer, publish
from recsys.versions.content import Content
from recsys.versions.runs import open_run
from tests.support.components import Service, Valkey, running
from tests.support.tracks import tracks_of, write_tracks

TRACKS, USERS = 300, 40
DAY = date(2026, 1, 2)
EXPERIMENT = "DAE_VS_CONTEXTUAL"
#: Of the line of a user whose id is an integer, who played a known track.
LINE_FIELDS = tuple(name for name in FIELDS if name not in ("user_id", "track_id"))


def write_world(directory: Path) -> Path:
    """All that the service reads: who listens, it is not told."""
    directory.mkdir()
    write_tracks(directory, tracks_of(TRACKS))
    (directory / "top_tracks.json").write_text(json.dumps(list(range(100))))
    return directory


class Stage:
    """A service with one published version and an open run."""

    def __init__(self, tmp_path: Path, valkey: Valkey, service: Service) -> None:
        self.valkey, self.service, self.logs = valkey, service, tmp_path / "logs"
        self.client = keyspace.connect(load_settings(redis_url=valkey.url))
        lists = {user: keyspace.pack(range(200, 250)) for user in range(1, USERS)}
        rows = np.array([[(t + k + 1) % TRACKS for k in range(20)] for t in range(TRACKS)], dtype="<u4")
        content = Content(lists, keyspace.pack(range(100)), rows.tobytes())
        self.version = publish.publish_version(self.client, content, DAY)
        arms = (Arm("C", "contextual", self.version), Arm("T1", "dae", self.version))
        self.experiment = Experiment(EXPERIMENT, arms, "salt")
        open_run(self.client, RunSpec("night", self.version, 0.0, 7, self.experiment, TRACKS))
        open_run(self.client, RunSpec("traffic", "", 1.0, 7, None, TRACKS))

    def user_of(self, arm: str) -> int:
        return next(u for u in range(1, USERS) if self.experiment.arm_of(u).name == arm)

    def records(self, run: str) -> list[dict]:
        paths = sorted((self.logs / run).glob("*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    tmp_path = tmp_path_factory.mktemp("stage")
    with running(Valkey(tmp_path)) as valkey, serving(tmp_path, valkey) as stage:
        yield stage


@contextmanager
def serving(tmp_path: Path, valkey: Valkey, workers: int = 1, output: Path | None = None, **more: str) -> Iterator[Stage]:
    environment = {
        "RECSYS_WORLD": str(write_world(tmp_path / "world")),
        "RECSYS_REDIS_URL": valkey.url,
        "RECSYS_SERVICE_LOGS": str(tmp_path / "logs"),
        **more,
    }
    with running(Service(environment, workers=workers, output=output)) as service:
        yield Stage(tmp_path, valkey, service)


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_original_api(stage: Stage) -> None:
    service = stage.service
    assert service.get("/")[1]["status"] == "alive"
    assert service.get("/track/7") == (200, {"artist": "a7", "title": "t7", "track": 7, "recommendations": []})
    assert service.get("/track/300")[0] == 404
    status, answer = service.post("/next/3", {"track": 5, "time": 1.0})
    assert status == 200
    assert answer["user"] == 3
    assert 0 <= answer["track"] < 100
    assert service.post("/last/3", {"track": answer["track"], "time": 0.4}) == (200, {"user": 3})
    first, last = stage.records("live")[-2:]
    assert tuple(first) == tuple(last) == LINE_FIELDS
    assert (first["message"], first["track"], first["recommendation"]) == ("next", 5, answer["track"])
    assert (last["message"], last["recommendation"], last["step"]) == ("last", None, 1)


def test_each_arm_answers_with_its_recommender_and_never_repeats(stage: Stage) -> None:
    for arm, source, run in (("C", "contextual", "night.0.a"), ("T1", "dae", "night.1.a")):
        user, track, seen = stage.user_of(arm), 150, {150}
        for _ in range(60):
            _, answer = stage.service.post(f"/next/{user}", {"track": track, "time": 0.5}, **{"X-Recsys-Run": run})
            track = answer["track"]
            assert track not in seen
            seen.add(track)
        records = stage.records(run)
        assert records[0]["source"] == source
        assert records[0]["experiments"] == {EXPERIMENT: arm}
        assert [r["step"] for r in records] == list(range(60))
        if arm == "T1":
            assert [r["recommendation"] for r in records[:50]] == list(range(200, 250))
            assert records[50]["source"] == "top100"
        else:
            assert records[0]["recommendation"] in range(151, 171)
            assert records[0]["propensity"] == pytest.approx(1 / 20)


def test_exploration_is_uniform_and_its_propensity_logged(stage: Stage) -> None:
    run = "traffic.0.a"
    answers = []
    for user in range(USERS):
        track = 0
        for _ in range(20):
            _, answer = stage.service.post(f"/next/{user}", {"track": track, "time": 0.1}, **{"X-Recsys-Run": run})
            track = answer["track"]
            answers.append(track)
    counts = np.bincount(np.array(answers) // 30, minlength=10)
    assert counts.min() > 45
    assert counts.max() < 120
    record = stage.records(run)[0]
    assert record["source"] == "exploration"
    assert record["propensity"] == pytest.approx(1 / (TRACKS - 1))


def test_an_event_is_answered_once(stage: Stage) -> None:
    header = {"X-Recsys-Run": "night.0.c"}
    body = {"track": 5, "time": 1.0, "event": "9.0"}
    first = stage.service.post("/next/3", body, **header)
    assert stage.service.post("/next/3", body, **header) == first
    stage.service.post("/next/3", {"track": 6, "time": 1.0, "event": "9.1"}, **header)
    assert [r["step"] for r in stage.records("night.0.c")] == [0, 0, 1]


def test_sessions_are_counted_and_isolated_between_runs(stage: Stage) -> None:
    for run in ("night.0.d", "night.0.e"):
        for _ in range(2):
            stage.service.post("/next/3", {"track": 5, "time": 1.0}, **{"X-Recsys-Run": run})
            stage.service.post("/last/3", {"track": 6, "time": 0.0}, **{"X-Recsys-Run": run})
        assert [(r["session"], r["step"]) for r in stage.records(run)] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_batch_gives_the_answers_of_single_requests(stage: Stage) -> None:
    users = range(1, 30)
    single = [stage.service.post(f"/next/{u}", {"track": u, "time": 1.0}, **{"X-Recsys-Run": "night.0.f"})[1] for u in users]
    events = [{"message": "next", "user": u, "track": u, "time": 1.0} for u in users]
    _, batch = stage.service.post("/batch", {"events": events}, **{"X-Recsys-Run": "night.0.g"})
    assert batch["answers"] == single


def test_promotion_reaches_the_service_without_restart(stage: Stage) -> None:
    pointer.move(stage.client, stage.version, DAY, who="t", why="w")
    wait_until(lambda: stage.service.get("/readyz")[1]["live"] == stage.version)
    stage.service.post("/next/5", {"track": 1, "time": 1.0})
    assert stage.records("live")[-1]["version"] == stage.version


def test_who_asks_again_after_the_first_promotion_is_answered_alike(tmp_path: Path, valkey: Valkey) -> None:
    with serving(tmp_path, valkey, RECSYS_LIVE_EXPLORATION="1") as stage:
        bodies = {user: {"track": user, "time": 1.0, "event": "e"} for user in range(1, 20)}
        first = [stage.service.post(f"/next/{user}", body) for user, body in bodies.items()]
        assert {record["source"] for record in stage.records("live")} == {"top100"}
        pointer.move(stage.client, stage.version, DAY, who="t", why="w")
        wait_until(lambda: stage.service.get("/readyz")[1]["live"] == stage.version)
        assert [stage.service.post(f"/next/{user}", body) for user, body in bodies.items()] == first
        stage.service.post("/next/3", {"track": 5, "time": 1.0, "event": "f"})
        assert stage.records("live")[-1]["source"] == "exploration"


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/next/3", {"track": 2**31 - 1, "time": 1.0}, 400, "track"),
        ("/next/3", {"track": "", "time": 1.0}, 400, "track"),
        ("/next/3", {"track": "é" * 257, "time": 1.0}, 400, "track"),
        ("/next/3", {"track": -1, "time": 1.0}, 400, "track"),
        ("/next/3", {"track": True, "time": 1.0}, 400, "track"),
        ("/next/3", {"track": 1.5, "time": 1.0}, 400, "track"),
        ("/next/3", {"track": 1}, 400, "time"),
        ("/next/3", {"track": 1, "time": 1.01}, 400, "time"),
        ("/next/3", {"track": 1, "time": "1"}, 400, "time"),
        ("/next/3", {"track": 1, "time": 1, "event": ""}, 400, "event"),
        ("/next/3", b'{"track": 1, "time": NaN}', 400, "body"),
        ("/next/3", b"\xff\xfe", 400, "body"),
        ("/next/3", b"[]", 400, "body"),
        ("/next/-1", {"track": 1, "time": 1.0}, 404, "user"),
        ("/next/", {"track": 1, "time": 1.0}, 404, "user"),
        (f"/next/{2**63}", {"track": 1, "time": 1.0}, 404, "user"),
        (f"/next/{2**70}", {"track": 1, "time": 1.0}, 404, "user"),
        ("/next/" + "x" * 129, {"track": 1, "time": 1.0}, 404, "user"),
        ("/next/" + "%C3%A9" * 65, {"track": 1, "time": 1.0}, 404, "user"),
        ("/next/a%FFb", {"track": 1, "time": 1.0}, 404, "user"),
        ("/nowhere", {}, 404, "path"),
        ("/batch", {"events": 3}, 400, "events"),
        ("/batch", {"events": [{"message": "next", "user": 1, "track": 1, "time": 2}]}, 400, "events[0].time"),
        ("/batch", {"events": [{"message": "last", "user": 1, "track": 1, "time": 1}] * 2}, 400, "events[1].user"),
        ("/batch", {"events": [{"message": "last", "user": u, "track": 1, "time": 1} for u in (7, "7")]}, 400, "events[1].user"),
        ("/batch", {"events": [{"message": "last", "user": u, "track": 1, "time": 1} for u in (7, "")]}, 400, "events[1].user"),
        ("/batch", {"events": [{"message": "last", "user": "x" * 129, "track": 1, "time": 1}]}, 400, "events[0].user"),
        ("/batch", {"events": [{"message": "last", "user": "-1", "track": 1, "time": 1}]}, 400, "events[0].user"),
        ("/batch", {"events": [{"message": "last", "user": -1, "track": 1, "time": 1}]}, 400, "events[0].user"),
        ("/batch", {"events": [{"message": "last", "user": 2**63, "track": 1, "time": 1}]}, 400, "events[0].user"),
        ("/batch", {"events": [{"message": "last", "user": True, "track": 1, "time": 1}]}, 400, "events[0].user"),
        ("/batch", b" " * (2**20 + 1), 413, "body"),
    ],
)
def test_bad_requests_name_field_and_constraint(stage: Stage, path: str, body: object, status: int, field: str) -> None:
    before = stage.records("live")
    got, answer = stage.service.post(path, body)
    assert (got, answer["error"]["field"]) == (status, field)
    assert answer["error"]["constraint"]
    assert stage.records("live") == before


@pytest.mark.parametrize("run", ["../../etc", "night", "unknown.0.a", "a.b.c", "night.0." + "x" * 100])
def test_unknown_runs_are_refused(stage: Stage, run: str) -> None:
    status, answer = stage.service.post("/next/3", {"track": 1, "time": 1.0}, **{"X-Recsys-Run": run})
    assert status == 404
    assert "run" in answer["error"]["message"]


def test_without_redis_live_is_degraded_and_previews_wait(stage: Stage) -> None:
    preview = {"X-Recsys-Run": "night.0.h"}
    assert stage.service.post("/next/3", {"track": 5, "time": 1.0}, **preview)[0] == 200
    stage.valkey.kill()
    status, answer = stage.service.post("/next/3", {"track": 5, "time": 1.0})
    assert status == 200
    assert 0 <= answer["track"] < 100
    assert stage.service.post("/next/3", {"track": 5, "time": 1.0}, **preview)[0] == 503
    assert stage.records("live")[-1]["degraded"] is True
    stage.valkey.start()
    wait_until(lambda: stage.service.post("/next/3", {"track": 5, "time": 1.0}, **preview)[0] == 200)
    stage.service.post("/next/3", {"track": 6, "time": 1.0})
    assert stage.records("live")[-1]["degraded"] is False
