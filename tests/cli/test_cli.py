"""The command line: one clear line and an exit status for every bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.components import free_port

pytestmark = pytest.mark.slow


def recsys(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    env = {**{k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}, **environment}
    return subprocess.run([sys.executable, "-m", "recsys.cli", *words], capture_output=True, text=True, env=env, check=False)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"RECSYS_VAR": str(tmp_path / "var"), "RECSYS_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}


def assert_one_line(result: subprocess.CompletedProcess[str], message: str) -> None:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("recsys:")]
    assert len(lines) == 1, result.stderr
    assert message in lines[0]


def test_help_lists_the_commands(environment: dict[str, str]) -> None:
    result = recsys("--help", **environment)
    assert result.returncode == 0
    for command in ("nightly", "traffic", "verify", "nights", "serve", "doctor", "world", "publish"):
        assert command in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("verify", "--date", "2026-02-30"), "'2026-02-30' is not a date"),
        (("nightly", "--date", "yesterday"), "'yesterday' is not a date"),
        (("nightly", "--date", "2999-01-01"), "lies in the future"),
        (("nightly", "--date", "2026-01-01"), "logs/date=2026-01-01 is not in"),
        (("verify", "--date", "2026-01-01"), "no finished night"),
        (("world", "check", "--world", "/nonexistent"), "/nonexistent"),
    ],
)
def test_bad_input_is_one_line(environment: dict[str, str], words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    assert_one_line(recsys(*words, **environment), message)
    assert not (tmp_path / "var" / "storage").exists()


def test_redis_down_and_bad_settings_are_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    world = str(tmp_path / "world")
    assert recsys("world", "generate", "--dir", world, "--tracks", "300", "--users", "20", **environment).returncode == 0
    assert_one_line(recsys("serve", "--world", world, **environment), "does not answer")
    assert_one_line(recsys("nights", **{**environment, "RECSYS_SHARDS": "0"}), "RECSYS_SHARDS")
    assert_one_line(recsys("nights", **{**environment, "RECSYS_STORAGE": "nowhere"}), "'nowhere' is not a URL")


@pytest.mark.parametrize("words", [("--help",), ("settings",), ("nights",), ("verify", "--help")])
def test_a_place_without_a_language_is_enough(environment: dict[str, str], words: tuple[str, ...]) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = recsys(*words, **environment, **ascii_only)
    assert (result.returncode, result.stderr) == (0, "")


def test_output_that_cannot_be_written_is_one_line(environment: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "recsys.cli", "settings"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert result.returncode == 5
    assert result.stderr.splitlines() == ["recsys: the system fails (No space left on device); mend that, then try again"]


def test_no_nights_is_an_empty_list(environment: dict[str, str]) -> None:
    result = recsys("nights", "--json", **environment)
    assert json.loads(result.stdout) == []


def test_doctor_says_what_is_missing(environment: dict[str, str]) -> None:
    result = recsys("doctor", "--json", **environment)
    assert result.returncode == 1
    findings = {row["name"]: row for row in json.loads(result.stdout)}
    assert not findings["redis"]["ok"]
    assert not findings["world"]["ok"]
    assert findings["storage"]["ok"]
