"""`recsys promote`, `rollback`, `hold`, `release`, `audit`, `restore-live`: what is live moves, and who moved it is told."""

import getpass
import json
from pathlib import Path

import pytest

from recsys.cli import app
from recsys.exceptions import ConflictError
from recsys.settings import load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer
from tests.support.components import Valkey
from tests.versions.test_pointer import DAYS, night

pytestmark = pytest.mark.real


def run(*words: str) -> None:
    app(list(words), standalone_mode=False)


def test_a_person_moves_what_is_live(
    valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_REDIS_URL", valkey.url)
    monkeypatch.setenv("RECSYS_STORAGE", f"file://{tmp_path}/storage")
    client, store = keyspace.connect(load_settings()), Storage(f"file://{tmp_path}/storage")
    first, second = (night(client, store, day) for day in DAYS[:2])
    for version in (first, second):
        run("promote", version, "--why", "looks well")
    run("hold", "--why", "a holiday")
    run("release", "--why", "back at work")
    run("rollback", "--why", "complaints")
    with pytest.raises(ConflictError, match="release"):
        run("promote", second, "--why", "again")
    assert pointer.read(client).version == first
    capsys.readouterr()
    run("audit", "--json")
    entries = json.loads(capsys.readouterr().out)
    assert [entry["action"] for entry in entries] == ["promote", "promote", "hold", "release", "rollback"]
    assert {entry["who"] for entry in entries} == {f"person {getpass.getuser()}"}
    run("audit")
    assert f"{second} -> {first}  by person {getpass.getuser()}: complaints" in capsys.readouterr().out
    client.flushall()
    run("restore-live")
    assert pointer.read(client).version == first
