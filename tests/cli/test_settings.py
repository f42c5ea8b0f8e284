"""`recsys settings` tells what holds and hides what is secret; docs/settings.md is what it prints."""

import json
import re

import pytest

from recsys.cli import settings as command
from recsys.exceptions import InvalidInputError
from recsys.settings import load_settings, variables
from tests.support.markdown import DOCS


def test_the_page_is_not_stale() -> None:
    assert (DOCS / "settings.md").read_text() == command.page() + "\n", "run: recsys settings --markdown > docs/settings.md"


def test_the_page_names_every_setting_once_with_its_meaning() -> None:
    named = re.findall(r"^\| `(\w+)` \| .+ \| .* \| .+ \|$", command.page(), re.MULTILINE)
    assert named == list(variables())
    assert all(variables().values())


def test_values_that_hold_are_told_and_secrets_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECSYS_EPISODES", "7")
    monkeypatch.setenv("RECSYS_REDIS_URL", "redis://:hidden-word@127.0.0.1:1/0")
    monkeypatch.setenv("RECSYS_HDFS_USER", "ann")
    command.settings(as_json=True, markdown=False)
    told = capsys.readouterr().out
    found = {setting["variable"]: setting for setting in json.loads(told)}
    assert (found["RECSYS_EPISODES"]["value"], found["RECSYS_EPISODES"]["given"]) == ("7", True)
    assert (found["RECSYS_SEED"]["value"], found["RECSYS_SEED"]["given"]) == ("31337", False)
    assert found["RECSYS_HDFS_USER"]["value"] == "ann"
    assert "hidden-word" not in told
    command.settings(as_json=False, markdown=False)
    told = capsys.readouterr().out
    assert "RECSYS_EPISODES=7\n" in told
    assert "RECSYS_SEED=31337  (default)\n" in told
    assert "hidden-word" not in told


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("RECSYS_EPISDES", "RECSYS_EPISODES"), ("RECSYS_HDFS_USR", "RECSYS_HDFS_USER"), ("RECSYS_SHARD", "RECSYS_SHARDS")],
)
def test_a_misspelt_variable_is_an_error_that_names_the_nearest(monkeypatch: pytest.MonkeyPatch, name: str, nearest: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(InvalidInputError, match=rf"{name} is no setting .* the nearest is {nearest} "):
        load_settings()
