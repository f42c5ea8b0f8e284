"""What is wrong with a Redis that answers: mended where that is possible, told by /readyz, and in the log once a minute."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.versions import keyspace, pointer
from tests.service.test_service import DAY, USERS, Stage, serving, wait_until
from tests.support.components import Valkey

pytestmark = pytest.mark.real

PLAY = {"track": 1, "time": 0.5}
PREVIEW = {"X-Recsys-Run": "night.0.trouble"}


@pytest.fixture
def stage(tmp_path: Path, valkey: Valkey) -> Iterator[Stage]:
    with serving(tmp_path, valkey, output=tmp_path / "output") as stage:
        yield stage


def told(stage: Stage) -> list[str]:
    return [line for line in (stage.logs.parent / "output").read_text().splitlines() if " ERROR Redis: " in line]


def degraded(stage: Stage, user: int = 3) -> bool:
    assert stage.service.post(f"/next/{user}", PLAY)[0] == 200
    return stage.records("live")[-1]["degraded"]


@pytest.mark.parametrize("how", ["flushed", "deleted"])
def test_functions_that_are_missing_are_loaded_again(stage: Stage, how: str) -> None:
    assert not degraded(stage)
    assert stage.service.get("/readyz")[1]["trouble"] is None
    if how == "flushed":
        stage.client.function_flush()
    else:
        for library in stage.client.function_list():
            stage.client.function_delete(library[1].decode())
    assert degraded(stage)
    wait_until(lambda: not degraded(stage), 20)
    assert stage.service.post("/next/3", PLAY, **PREVIEW)[0] == 200
    assert ["Function not found" in line for line in told(stage)] == [True]


def test_a_key_of_another_type_is_told(stage: Stage) -> None:
    for user in range(1, USERS):
        assert not degraded(stage, user)
    user = next(record["user"] for record in stage.records("live") if "T1" in record["experiments"].values())
    key = keyspace.lists_key("", keyspace.bucket(user))
    stage.client.set(key, "no hash")
    for _ in range(3):
        assert degraded(stage, user)
    status, answer = stage.service.get("/readyz")
    assert status == 200
    assert "WRONGTYPE" in answer["trouble"]
    assert ["WRONGTYPE" in line for line in told(stage)] == [True]
    stage.client.delete(key)
    assert not degraded(stage, user)


def test_a_pointer_of_another_type_is_told(stage: Stage) -> None:
    stage.client.set(keyspace.LIVE, "no hash")
    wait_until(lambda: "WRONGTYPE" in (stage.service.get("/readyz")[1]["trouble"] or ""))
    assert not degraded(stage)
    assert len(told(stage)) == 1


def test_a_history_of_another_type_is_replaced(stage: Stage) -> None:
    key = f"{keyspace.history_prefix('live')[3]}3"
    stage.client.hset(key, "a", "b")
    assert not degraded(stage)
    assert stage.client.type(key) == b"string"


def test_a_password_that_has_changed_is_told(stage: Stage) -> None:
    stage.client.config_set("requirepass", "another")
    stage.client.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: stage.service.get("/readyz")[0] == 503, 20)
    wait_until(lambda: "NOAUTH" in (stage.service.get("/readyz")[1]["trouble"] or ""), 20)
    assert degraded(stage)
    assert len(told(stage)) == 1
    stage.client.config_set("requirepass", "")
    wait_until(lambda: stage.service.get("/readyz")[1] | {"live": None} == {
        "ready": True, "redis": True, "live": None, "rollout": None, "trouble": None
    }, 20)  # fmt: skip


def test_a_pointer_that_goes_back_is_told(stage: Stage) -> None:
    pointer.move(stage.client, stage.version, DAY, who="t", why="w")
    wait_until(lambda: stage.service.get("/readyz")[1]["live"] == stage.version)
    stage.client.delete(keyspace.LIVE)
    wait_until(lambda: "went back from generation 1 to 0" in (stage.service.get("/readyz")[1]["trouble"] or ""))
    assert len(told(stage)) == 1
