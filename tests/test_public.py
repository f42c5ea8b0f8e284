"""What other programs may rely on: the names of the package, its types, its version and what the changelog says of it."""

import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import recsys
from tests.support.markdown import DOCS, ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", sorted(set(recsys.__all__) - {"__version__"}))
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(recsys, name).__doc__
    assert f"`{name}`" in (DOCS / "commands.md").read_text()


def test_no_other_name_is_public() -> None:
    assert set(recsys._MODULES) | {"__version__"} == set(recsys.__all__)
    assert set(recsys.__all__) <= set(dir(recsys))
    with pytest.raises(AttributeError, match="no attribute 'nights'; it has Arm, Experiment"):
        getattr(recsys, "nights")  # noqa: B009 - a name that no type checker would let pass


def test_the_package_loads_nothing_before_it_is_asked_for() -> None:
    code = "import sys, recsys; print([m for m in sys.modules if m.startswith('recsys.') or m in ('numpy', 'pydantic', 'redis')])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"


def test_its_types_are_for_others_too() -> None:
    assert (ROOT / "recsys" / "py.typed").exists()


def test_version_changelog_and_tag_agree() -> None:
    released = re.findall(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})$", CHANGELOG, re.MULTILINE)
    assert recsys.__version__ == version("nightshift-recsys") == released[0][0]
    assert re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)[0] == "Unreleased"
    days = [day for _, day in released]
    assert days == sorted(days, reverse=True)
    tags = subprocess.run(["git", "tag", "--list", "v*"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
    assert set(tags) <= {f"v{number}" for number, _ in released}
    if tags:  # a clone may have none
        assert f"v{recsys.__version__}" in tags
