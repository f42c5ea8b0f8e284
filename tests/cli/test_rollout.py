"""`recsys rollout`: how it stands, and what a person does about it."""

import getpass
import json
from pathlib import Path

import pytest

from recsys.cli import app
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.settings import load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer
from tests.support.components import Valkey
from tests.versions.test_pointer import DAYS, night, promoted

pytestmark = pytest.mark.real


def run(*words: str) -> None:
    app(["rollout", *words], standalone_mode=False)


def test_a_person_rolls_a_version_out_and_takes_it_back(
    valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_REDIS_URL", valkey.url)
    monkeypatch.setenv("RECSYS_VAR", str(tmp_path))
    client, store = keyspace.connect(load_settings()), Storage(load_settings().storage_url)

    def said(*words: str) -> str:
        run(*words)
        return capsys.readouterr().out

    (live,) = promoted(client, store, DAYS[:1])
    candidate = night(client, store, DAYS[1])
    assert said("status") == "no rollout has begun yet\n"
    assert said("abort", "--why", "?") == "no rollout has begun yet\n"
    with pytest.raises(MissingDataError, match="no rollout has begun"):
        run("advance", "5", "--why", "?")
    assert said("begin", candidate, "--why", "try it") == f"{candidate} is served to 1 % of listeners\n"
    assert f"compared with {live}; stage 1, experiment ROLLOUT-{candidate}-1" in said("status")
    assert json.loads(said("status", "--json"))["share"] == 1
    assert "no telling yet" in said("look")
    with pytest.raises(InvalidInputError, match="they are 1, 5, 25, 100"):
        run("advance", "50", "--why", "go on")
    assert said("advance", "25", "--why", "go on") == f"{candidate} is served to 25 % of listeners\n"
    assert "or more already" in said("advance", "25", "--why", "go on")
    assert "is served to 25 %" in said("abort", live, "--why", "not this one")
    assert "nobody gets it any more" in said("abort", "--why", "complaints")
    assert "was taken back: complaints" in said("abort", candidate, "--why", "complaints")
    trail = [(entry.action, entry.who) for entry in pointer.audit(client)][1:]
    assert trail == [(action, f"person {getpass.getuser()}") for action in ("rollout", "advance", "abort")]
    # A rule that cannot be read keeps nobody from taking a candidate back.
    pointer.release(client, candidate, who="ann", why="mended")
    run("begin", candidate, "--why", "again")
    (tmp_path / "bad.yml").write_text("stages: []")
    monkeypatch.setenv("RECSYS_ROLLOUT", str(tmp_path / "bad.yml"))
    with pytest.raises(InvalidInputError, match="rollout rule"):
        run("look")
    assert "nobody gets it any more" in said("abort", "--why", "enough")
