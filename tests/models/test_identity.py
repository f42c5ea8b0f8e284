"""The digest of models' sources: what is imported counts, wherever it lies, and nothing is run to find out."""

import importlib
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest

import recsys
from recsys.exceptions import InvalidInputError
from recsys.models.base import MODELS
from recsys.models.identity import code_of

COMPILED = f"zoo/fast{EXTENSION_SUFFIXES[0]}"
#: A project with a model in ``zoo.deep.model``; ``plain`` has no ``__init__``, nor has ``plain.inner``.
PROJECT = {
    "zoo/__init__.py": "",
    "zoo/deep/__init__.py": "",
    "zoo/deep/model.py": """
from typing import TYPE_CHECKING
import typing

import numpy as np
import beside
from ..near import helper
from . import sibling

if TYPE_CHECKING:
    from zoo import hints
else:
    import other_hints
if typing.TYPE_CHECKING:
    import zoo.hints

class Model:
    def fit(self):
        from plain.inner import leaf
        import zoo.fast, installed, nowhere
        from .. import lazy
        from ..... import beyond
""",
    "zoo/deep/sibling.py": "",
    "zoo/near.py": "import zoo.far as f\nhelper = 1",
    "zoo/far.py": "",
    "zoo/lazy.py": "from zoo.deep import model  # in a circle\nraise RuntimeError('this was run')",
    "zoo/hints.py": "",
    "zoo/unused.py": "",
    "zoo/broken.py": "this is no Python",
    "beside.py": "try:\n    from zoo import broken\nexcept SyntaxError:\n    pass",
    "other_hints.py": "",
    "plain/inner/leaf.py": "raise RuntimeError('this was run')",
    "plain/inner/unused.py": "",
    COMPILED: "\0 no library",
    "site-packages/installed.py": "",
}
#: Not imported, imported for type checkers only, or installed.
COUNTS_NOT = {"zoo/unused.py", "plain/inner/unused.py", "zoo/hints.py", "site-packages/installed.py"}


def write(directory: Path) -> Path:
    for name, text in PROJECT.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def imported_from(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Have ``zoo.deep.model`` imported from there, and nothing else that it does not import itself."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("zoo", "beside", "other_hints", "plain")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(directory / "site-packages")
    monkeypatch.syspath_prepend(directory)
    importlib.import_module("zoo.deep.model")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    imported_from(monkeypatch, write(tmp_path / "project"))
    return tmp_path / "project"


@pytest.mark.parametrize("name", PROJECT)
def test_an_edit_counts_where_the_model_comes_by(project: Path, name: str) -> None:
    before = code_of(["zoo.deep.model"])
    assert code_of(["zoo.deep.model"]) == before
    with (project / name).open("a") as file:
        file.write("\n# edited")
    assert (code_of(["zoo.deep.model"]) == before) == (name in COUNTS_NOT)


def test_nothing_is_imported_to_look_at_it(project: Path) -> None:
    before = set(sys.modules)
    code_of(["zoo.deep.model"])
    assert set(sys.modules) == before
    assert "zoo.lazy" not in sys.modules


def test_the_digest_does_not_tell_where_the_project_lies(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_of(["zoo.deep.model"])
    imported_from(monkeypatch, write(tmp_path / "elsewhere"))
    assert sys.modules["zoo.deep.model"].__file__ == str(tmp_path / "elsewhere/zoo/deep/model.py")
    assert code_of(["zoo.deep.model"]) == before


def test_several_models_have_one_digest_in_any_order(project: Path) -> None:
    names = ["zoo.deep.model", *(name.partition(":")[0] for name in MODELS.values())]
    for name in names:
        importlib.import_module(name)
    assert code_of(names) == code_of([*reversed(names), names[0]])
    assert len({code_of(names[:count]) for count in range(1, len(names) + 1)}) > 2


def test_a_module_that_has_no_file_to_read_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typed_in", ModuleType("typed_in"))
    with pytest.raises(InvalidInputError, match="'typed_in' of a model has no file"):
        code_of(["typed_in"])
    (project / "zoo/deep/model.py").unlink()
    with pytest.raises(InvalidInputError, match=r"'zoo\.deep\.model' .* cannot be read"):
        code_of(["zoo.deep.model"])


def run(script: Path, *path: Path) -> str:
    """What a script prints; these directories come first on the path."""
    environment = {"PYTHONPATH": ":".join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_class_of_a_script_counts_with_what_lies_beside_it(tmp_path: Path) -> None:
    script, beside = tmp_path / "script", tmp_path / "beside.py"
    script.write_text("import beside\nfrom recsys.models.identity import code_of\nprint(code_of(['__main__']))\n")
    beside.write_text("")
    first = run(script)
    assert run(script) == first
    beside.write_text("edited = True")
    second = run(script)
    script.write_text(script.read_text() + "# edited")
    assert len({first, second, run(script)}) == 3


@pytest.mark.slow
def test_recsys_counts_where_it_is_installed_too(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    shutil.copytree(Path(recsys.__file__).parent, packages / "recsys", ignore=shutil.ignore_patterns("__pycache__"))
    (packages / "other.py").write_text("")
    (packages / "mine.py").write_text("import other\nimport recsys.models.ease\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import mine, recsys\nfrom recsys.models.identity import code_of\nprint(recsys.__file__)\nprint(code_of(['mine']))\n"
    )
    first = run(script, packages)
    assert first.startswith(str(packages))
    (packages / "other.py").write_text("edited = True")
    assert run(script, packages) == first
    found = {first}
    for name in ("recsys/models/ease.py", "mine.py"):
        with (packages / name).open("a") as file:
            file.write("# edited\n")
        found.add(run(script, packages))
    assert len(found) == 3
