"""Publishing and promotion: killed at any step, they leave nothing by halves, and the rerun completes it; what a hold leaves."""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import Connection

from recsys.abtest import report
from recsys.exceptions import MissingDataError
from recsys.night import steps as nightly
from recsys.schemas import Arm, Experiment
from recsys.settings import Settings, load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, lease, pointer, publish, restore
from recsys.versions.content import Content
from recsys.versions.pointer import Pointer
from tests.support.components import Valkey
from tests.support.traffic import records, write

DAY = date(2026, 1, 5)


class Killed(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


def content(shift: int = 0) -> Content:
    lists = {user: keyspace.pack(range(user + shift, user + shift + 50)) for user in range(400)}
    return Content(lists, keyspace.pack(range(100)), keyspace.pack(range(2000)), b"sessions")


@contextmanager
def killed_at(moment: int, sent: bool) -> Iterator[None]:
    """The process ends when it sends for the ``moment``-th time, after what is sent has left (``sent``) or before."""
    moments, send = itertools.count(), Connection.send_packed_command

    def dying(self: Connection, command: Any, check_health: bool = True) -> None:
        last = next(moments) == moment
        if sent or not last:
            send(self, command, check_health)
        if last:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "send_packed_command", dying)
        yield


@pytest.mark.drill("publisher", "killed at any command", "what is there cannot be made live; the rerun completes it")
@pytest.mark.parametrize("sent", [False, True])
def test_a_publisher_killed_at_any_command_leaves_nothing_that_can_be_promoted(valkey: Valkey, sent: bool) -> None:
    settings = load_settings(redis_url=valkey.url)
    version = f"{DAY}-{content().checksum[:8]}"
    for moment in itertools.count():
        client = keyspace.connect(settings)
        client.flushall()
        try:
            with killed_at(moment, sent):
                publish.publish_version(client, content(), DAY)
        except Killed:
            client = keyspace.connect(settings)
        else:
            break
        if client.hget(keyspace.version_key(version), "state") == b"complete":
            assert publish.matches(client, version, content())
        else:
            with pytest.raises(MissingDataError, match="is not in Redis"):
                pointer.move(client, version, DAY, who="t", why="w")
        assert pointer.read(client) == Pointer()
        assert publish.publish_version(client, content(), DAY) == version
        assert publish.matches(client, version, content())
    assert moment > 8


@pytest.fixture
def settings(tmp_path: Path, valkey: Valkey) -> Settings:
    return load_settings(var=tmp_path / "var", redis_url=valkey.url)


@pytest.fixture
def ready(settings: Settings) -> str:
    """A night that only has to be promoted: its version."""
    store = Storage(settings.storage_url)
    version = publish.publish_version(keyspace.connect(settings), content(), DAY)
    design = Experiment("E", (Arm("C", "contextual", version), Arm("T1", "dae", version)), str(DAY))
    with store.stage(f"interactions/date={DAY}") as staging:
        (staging / "inputs.json").write_text(json.dumps({"live": ""}))
    with store.stage(f"experiments/date={DAY}") as staging:
        write(staging / "0000-a.jsonl", records(design, users=500, sessions=2000, lift={"T1": 1.5}))
        (staging / "run.json").write_text(json.dumps({"catalogue": 500}))
    assert report.build_report(store, DAY, settings, design)["decision"]["verdict"] == "promote"
    return version


#: What a promotion calls, in this order, after the pointer has been read.
STEPS = [(pointer, "move"), (nightly, "_record"), (report, "finish_report"), (restore, "save"), (lease, "drop")]


def dying_before(_: Callable[..., Any]) -> Callable[..., Any]:
    def die(*arguments: Any, **named: Any) -> None:
        raise Killed

    return die


def dying_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def die(*arguments: Any, **named: Any) -> None:
        function(*arguments, **named)
        raise Killed

    return die


@pytest.mark.drill("promotion", "killed before or after any of its steps", "the rerun ends with one move and the same verdict")
def test_a_promotion_killed_between_its_steps_is_completed_by_a_rerun(settings: Settings, ready: str) -> None:
    store = Storage(settings.storage_url)

    def promote() -> dict[str, Any]:
        client = keyspace.connect(settings)
        lease.take(client, DAY, "night")
        return nightly.promote(settings, DAY, run="night", version=ready)

    for (module, name), dying in itertools.product(STEPS, (dying_before, dying_after)):
        client: redis.Redis = keyspace.connect(settings)
        client.delete(keyspace.LIVE, keyspace.AUDIT)
        for gone in (f"promotions/date={DAY}", restore.COPY):
            store.remove(gone)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, dying(getattr(module, name)))
            with pytest.raises(Killed):
                promote()
        assert pointer.read(client).version in ("", ready)
        verdict = promote()
        assert (verdict["verdict"], verdict["live"]) == ("promoted", ready)
        assert store.read_json(f"promotions/date={DAY}", "promotion.json") == verdict
        assert store.read_json(f"reports/date={DAY}", "report.json")["outcome"] == verdict
        assert pointer.read(client) == Pointer(ready, 1, str(DAY), "")
        assert [(entry.action, entry.to) for entry in pointer.audit(client)] == [("promote", ready)]
        assert store.read_json(restore.COPY, "live.json")["pointer"]["version"] == ready
        assert client.get(keyspace.lease_key(str(DAY))) is None


def test_nights_that_hold_do_not_fill_redis(settings: Settings, ready: str) -> None:
    client = keyspace.connect(settings)
    older = [publish.publish_version(client, content(shift), DAY - timedelta(days=shift)) for shift in range(1, 7)]
    assert nightly.promote(settings, DAY, run="night", version=ready, promote=False)["verdict"] == "held"
    left = sorted(version.decode() for version in client.smembers(keyspace.VERSIONS))
    assert left == sorted([*older[:3], ready])
