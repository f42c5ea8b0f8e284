"""Whoever asks is answered, and logged under the name that was given: a real service, which has no list of users, and HTTP."""

import http.client
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.catalog import number_of
from recsys.experiments import ORIGINAL
from recsys.logs.record import NO_SESSION, NO_TRACK
from recsys.versions import pointer
from tests.service.test_service import DAY, LINE_FIELDS, TRACKS, Stage, serving, wait_until
from tests.support.components import Valkey, running
from tests.support.tracks import tracks_of, write_tracks

pytestmark = pytest.mark.real

PLAY = {"track": 150, "time": 0.5}
NAMES = ["alice", "жанна", "a b/c?d=e&f#%", "007", "x" * 128, 'quote"s\\', "\x00\n", 2**32, 2**63 - 1]
QUOTED = ["alice", "%D0%B6%D0%B0%D0%BD%D0%BD%D0%B0", "a%20b%2Fc%3Fd%3De%26f%23%25", "007", "x" * 128, "quote%22s%5C", "%00%0A",
    str(2**32), str(2**63 - 1)]  # fmt: skip
#: A line as it was before users and tracks could be texts.
LINE = re.compile(
    rb'\{"message":"next","timestamp":[0-9]{13},"user":3,"track":150,"time":0\.5,"latency":[0-9.e-]+,"recommendation":[0-9]+,'
    rb'"experiments":\{"DAE_VS_CONTEXTUAL":"(C|T1)"\},"run":"live","version":"[0-9a-f-]{19}","session":[0-9]{10},"step":0,'
    rb'"event":"e","source":"(contextual|dae)","degraded":false,"propensity":(0\.05|1\.0)\}\n'
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """With a live version that knows users 1 to 39."""
    tmp_path = tmp_path_factory.mktemp("anybody")
    with running(Valkey(tmp_path)) as valkey, serving(tmp_path, valkey) as stage:
        pointer.move(stage.client, stage.version, DAY, who="t", why="w")
        wait_until(lambda: stage.service.get("/readyz")[1]["live"] == stage.version)
        yield stage


def metric(stage: Stage, name: str) -> float:
    with urllib.request.urlopen(stage.service.url + "/metrics") as answer:
        found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize(("name", "path"), zip(NAMES, QUOTED, strict=True))
def test_an_answer_and_a_line_hold_the_name_as_given(stage: Stage, name: str | int, path: str) -> None:
    status, answer = stage.service.post(f"/next/{path}", PLAY)
    assert (status, answer["user"]) == (200, name)
    assert stage.service.post(f"/last/{path}", {"track": answer["track"], "time": 0.1}) == (200, {"user": name})
    events = [{"message": "next", "user": name} | PLAY]
    assert stage.service.post("/batch", {"events": events})[1]["answers"][0]["user"] == name
    first, last, batch = stage.records("live")[-3:]
    for record in (first, last, batch):
        assert record["user"] == number_of(str(name))
        assert record.get("user_id") == (name if isinstance(name, str) else None)
        assert tuple(record) == (*LINE_FIELDS, *(["user_id"] if isinstance(name, str) else []))
        assert record["experiments"] == {ORIGINAL.name: ORIGINAL.arm_of(name).name}
    assert (first["session"] + 1, last["step"]) == (batch["session"], 1)


def test_a_run_deals_texts_by_their_text_too(stage: Stage) -> None:
    for name in ("alice", "bob", "carol", "dave"):
        assert stage.service.post(f"/next/{name}", PLAY, **{"X-Recsys-Run": "night.0.text"})[0] == 200
    arms = [(record["user_id"], record["experiments"][stage.experiment.name]) for record in stage.records("night.0.text")]
    assert arms == [(name, stage.experiment.arm_of(name).name) for name in ("alice", "bob", "carol", "dave")]
    assert {arm for _, arm in arms} == {"C", "T1"}


def test_a_line_of_a_known_listener_is_what_it_was(stage: Stage) -> None:
    assert stage.service.post("/next/3", {"event": "e"} | PLAY)[0] == 200
    lines = [line for path in (stage.logs / "live").glob("*.jsonl") for line in path.read_bytes().splitlines(keepends=True)]
    assert LINE.fullmatch(lines[-1]), lines[-1]


def test_an_integer_in_quotes_is_that_integer(stage: Stage) -> None:
    events = [{"message": "next", "user": "39"} | PLAY]
    assert stage.service.post("/batch", {"events": events})[1]["answers"][0]["user"] == 39
    assert "user_id" not in stage.records("live")[-1]


def test_ten_thousand_unknown_listeners_are_answered_each_with_a_line(stage: Stage) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stage.service.port, timeout=20)
    before, counter = len(stage.records("live")), 'recsys_answers_total{source="newcomer_contextual"}'
    counted = metric(stage, counter)
    body = json.dumps(PLAY)
    for number in range(10_000):
        user = 10**6 + number if number % 2 else f"new-{number}"
        connection.request("POST", f"/next/{user}", body)
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["user"] == user
    records = stage.records("live")[before:]
    assert len({record["user"] for record in records}) == len(records) == 10_000
    by_arm = {arm: {r["source"] for r in records if r["experiments"][ORIGINAL.name] == arm} for arm in ("C", "T1")}
    assert by_arm == {"C": {"contextual"}, "T1": {"newcomer_contextual"}}
    assert {record["recommendation"] for record in records} == set(range(151, 171))
    assert metric(stage, counter) - counted == sum(record["source"] == "newcomer_contextual" for record in records)


def test_a_newcomer_hears_nothing_twice(stage: Stage) -> None:
    user = next(user for user in range(10**9, 10**9 + 100) if ORIGINAL.arm_of(user).name == "T1")
    track, heard, before = 299, [299], len(stage.records("live"))
    for _ in range(TRACKS - 1):
        _, answer = stage.service.post(f"/next/{user}", {"track": track, "time": 0.5})
        track = answer["track"]
        heard.append(track)
    assert sorted(heard) == list(range(TRACKS))
    assert {record["source"] for record in stage.records("live")[before:]} == {"newcomer_contextual", "newcomer_top100"}


def test_a_play_of_a_track_that_nobody_knows_is_kept(stage: Stage) -> None:
    before = metric(stage, "recsys_unknown_tracks_total")
    for track, logged, name in ((TRACKS + 5, TRACKS + 5, None), ("song-of-tomorrow", NO_TRACK, "song-of-tomorrow")):
        for user in (3, 4, "eve", 10**10):
            status, answer = stage.service.post(f"/next/{user}", {"track": track, "time": 1.0})
            assert status == 200
            assert answer["track"] < TRACKS
            record = stage.records("live")[-1]
            assert (record["track"], record.get("track_id")) == (logged, name)
            assert tuple(record)[: len(LINE_FIELDS)] == LINE_FIELDS
            assert stage.service.post(f"/last/{user}", {"track": track, "time": 0.1})[0] == 200
    assert metric(stage, "recsys_unknown_tracks_total") - before == 16
    for track in (TRACKS + 5, "song-of-tomorrow"):
        status, answer = stage.service.post("/next/3", {"track": track, "time": 1.0}, **{"X-Recsys-Run": "night.0.strict"})
        assert (status, answer["error"]["field"]) == (400, "track")


def test_without_redis_anybody_is_answered_and_a_retired_track_is_not(tmp_path: Path, valkey: Valkey) -> None:
    with serving(tmp_path, valkey, workers=2) as stage:
        write_tracks(tmp_path / "world", [line | {"available": line["track"] >= 60} for line in tracks_of(TRACKS)])
        wait_until(lambda: not any(stage.service.get("/track/7")[1].get("available", True) for _ in range(20)), 10)
        valkey.kill()
        for user in ("alice", 2**62, 5):
            heard: list[object] = ["unheard-of"]
            for _ in range(50):
                status, answer = stage.service.post(f"/next/{user}", {"track": heard[-1], "time": 0.5})
                assert (status, answer["user"]) == (200, user)
                heard.append(answer["track"])
            assert min(heard[1:]) >= 60
            assert stage.service.post(f"/last/{user}", {"track": 70, "time": 0.5})[0] == 200
        records = stage.records("live")
        assert {record["session"] for record in records} == {NO_SESSION}
        assert {record.get("user_id") for record in records} == {"alice", None}
        assert [record["track"] for record in records if "track_id" in record] == [NO_TRACK] * 3
        valkey.start()


def test_who_is_nobody_refuses_a_batch_whole(stage: Stage) -> None:
    before = stage.records("live")
    events = [{"message": "next", "user": user} | PLAY for user in ("somebody", 10**12, "y" * 129)]
    status, answer = stage.service.post("/batch", {"events": events})
    assert (status, answer["error"]["field"]) == (400, "events[2].user")
    assert stage.records("live") == before
    assert stage.service.post("/batch", {"events": events[:2]})[0] == 200
