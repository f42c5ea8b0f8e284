"""The page about own data, word by word: its blocks are run in order, in one shell, in an empty directory."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.platform.ports import free_port

pytestmark = pytest.mark.real

TEXT = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", TEXT, re.M | re.S)


def test_a_file_becomes_an_answer(tmp_path: Path) -> None:
    for language, block in BLOCKS:
        if language == "python":
            (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    script = "echo ======\n".join(block for language, block in BLOCKS if language == "sh").replace("5000", str(free_port()))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(words, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    _, imported, night, answers = done.stdout.split("======\n")
    assert "12,600 rows: 12,600 plays" in imported
    assert "7 would be written" in imported
    assert "7 written, 0 already there" in imported
    assert re.search(r"^2026-01-07: promoted$", night, re.M), night
    assert Path(re.search(r"^report: (.*)$", night, re.M)[1]).is_file()
    known, unknown = (json.loads(line) for line in answers.replace("}{", "}\n{").splitlines())
    catalogue = [json.loads(line) for line in (tmp_path / "var" / "world" / "tracks.json").read_text().splitlines()]
    for user, answer in (("listener-0", known), ("nobody-yet", unknown)):
        assert answer["user"] == user
        assert catalogue[answer["track"]]["id"] == answer["id"] != "song-1"
    assert int(known["id"].removeprefix("song-")) < 50, "listener 0 prefers the first scene"
