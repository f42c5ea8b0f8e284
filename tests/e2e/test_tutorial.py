"""The tutorial, word by word: its blocks are run in order in an empty directory."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", TEXT, re.M | re.S)


def test_the_tutorial_ends_with_a_verdict(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    said = []
    for language, block in BLOCKS:
        if language == "python":
            name = block.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(block)
            continue
        words = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(words, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    night, after = said[-2:]
    verdict = re.search(r"^2026-01-03: (promoted|held)$", night, re.M)[1]
    assert "Session time of T1 against C" in night
    report = Path(re.search(r"^report: (.*)$", night, re.M)[1])
    assert report.is_file()
    assert report.is_relative_to(tmp_path)
    assert f"2026-01-03  {verdict}" in after
    assert re.search(r"^digest [0-9a-f]{64}$", after, re.M)
