"""An outage of Redis: what is remembered of it is bounded, and what was noted is recorded afterwards, however much it is."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import prometheus_client as prom
import pytest

from recsys.service import degraded
from recsys.service.degraded import Degraded
from recsys.service.departures import Departures
from recsys.service.requests import NO_EVENT, Event
from recsys.service.state import Scope, Version
from recsys.versions import keyspace
from tests.service.test_service import wait_until, write_world
from tests.support.components import Service, Valkey, running
from tests.support.tracks import world_of

TRACKS, USERS = 300, 30
SCOPE = Scope("live", Version("", range(100)), 0.0, 7, world_of(TRACKS))


def event(user: int, track: int = 0, last: bool = False) -> Event:
    return Event(last, user, track, 0.5, None, NO_EVENT)


def answer(memory: Degraded, *events: Event) -> list[dict]:
    return [json.loads(body) for body in memory.answers(SCOPE, events, 0.0, 0.0).bodies]


def memory_of() -> Degraded:
    return Degraded(Departures())


def forgotten() -> float:
    return prom.REGISTRY.get_sample_value("recsys_degraded_forgotten_total") or 0.0


def test_no_departure_is_forgotten() -> None:
    memory = memory_of()
    answer(memory, *[event(user, last=True) for user in range(USERS)])
    answer(memory, event(2, last=True), event(12))
    found: list[int] = []
    while taken := memory._departures.some(7):
        found += [departure.user for departure in taken]
        memory._departures.forget(taken)
        assert len(taken) <= 7
    assert sorted(found) == list(range(USERS))
    assert not memory._departures.waiting


def test_plays_are_bounded_and_those_go_first_who_have_been_silent_longest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(degraded, "MAX_PLAYS", 12)
    memory, before = memory_of(), forgotten()
    with caplog.at_level(logging.WARNING):
        for user in range(6):
            answer(memory, event(user, 200))  # what was played and what is answered
        answer(memory, event(0, 201))
        answer(memory, event(6, 200))
    assert forgotten() - before == 2
    assert sum("plays" in record.message for record in caplog.records) == 1
    assert set(memory._plays) == {0, 3, 4, 5, 6}
    assert sum(map(len, memory._plays.values())) == 12


def test_a_listener_alone_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degraded, "MAX_PLAYS", 50)
    memory = memory_of()
    for track in range(200):
        answer(memory, event(1, track))
        assert sum(map(len, memory._plays.values())) <= 50


def test_a_warning_comes_once_an_outage(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(degraded, "MAX_PLAYS", 1)
    memory = memory_of()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            answer(memory, *[event(user) for user in range(4)])
            memory.end()
    assert len(caplog.records) == 2


def test_after_an_outage_nothing_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = memory_of()
    answer(memory, event(1, 5))
    memory.end()
    assert memory._plays == {}


#: Of one bucket, and more than Lua can unpack at once.
DEPARTING = range(5, 9_000 * keyspace.BUCKETS, keyspace.BUCKETS)


@pytest.fixture
def service(tmp_path: Path, valkey: Valkey) -> Iterator[Service]:
    environment = {
        "RECSYS_WORLD": str(write_world(tmp_path / "world")),
        "RECSYS_REDIS_URL": valkey.url,
        "RECSYS_SERVICE_LOGS": str(tmp_path / "logs"),
    }
    with running(Service(environment)) as service:
        yield service


@pytest.mark.real
def test_thousands_of_departures_are_recorded_after_an_outage(service: Service, valkey: Valkey) -> None:
    valkey.kill()
    for start in range(0, len(DEPARTING), 3000):
        users = DEPARTING[start : start + 3000]
        events = [{"message": "last", "user": user, "track": 1, "time": 0.5} for user in users]
        assert service.post("/batch", {"events": events})[0] == 200
    valkey.start()
    wait_until(lambda: service.get("/readyz")[0] == 200)
    assert service.post("/next/1", {"track": 1, "time": 0.5})[0] == 200
    prefix = keyspace.history_prefix("live")[5]
    keys = [f"{prefix}{user}" for user in DEPARTING]
    wait_until(lambda: valkey.client.exists(*keys) == len(DEPARTING), 20)
    assert {state[8] for state in valkey.client.mget(keys)} == {0}, "a session is open"


@pytest.mark.real
def test_one_who_leaves_in_an_outage_does_not_make_the_others_forgotten(service: Service, valkey: Valkey) -> None:
    valkey.kill()
    track, heard = 150, {150}
    for number in range(60):
        assert service.post(f"/last/{DEPARTING[number]}", {"track": 1, "time": 0.5})[0] == 200
        _, found = service.post("/next/1", {"track": track, "time": 0.5})
        track = found["track"]
        assert track not in heard, number
        heard.add(track)
