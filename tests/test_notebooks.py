"""Notebooks: committed without outputs, and executed from begin to end on the storage of a small night."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DAYS = ("2026-01-02", "2026-01-03")


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def test_notebooks_are_committed_without_outputs() -> None:
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
        assert [cell.source for cell in cells if cell.outputs or cell.execution_count] == [], path


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a small world, two log dates and a night leave, as `make run` does at its size."""
    directory = tmp_path_factory.mktemp("night") / "var"
    settings = {"RECSYS_VAR": str(directory), "RECSYS_MODEL": "ease", "RECSYS_BATCH": "256"}

    def recsys(*words: str) -> str:
        command = [sys.executable, "-m", "recsys.cli", *words]
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    recsys("world", "generate", "--tracks", "1500", "--users", "400")
    for day in DAYS:
        recsys("traffic", "--embedded", "--date", day, "--sessions", "4000")
    assert "Session time of T1 against C" in recsys("nightly", "--embedded", "--date", DAYS[-1], "--episodes", "3000")
    return directory


@pytest.mark.real
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_ends_with_what_the_night_found(
    path: Path, var: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_VAR", str(var))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = read(path)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert f"{DAYS[-1]}: " in outputs[-1].text
    assert str(var / "storage" / "reports") in outputs[-1].text
