"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

from tests.support.components import valkey
from tests.support.hdfs import hdfs, hdfs_root, scratch

pytest_plugins = ["tests.support.drill", "tests.support.groups", "tests.support.leftovers"]
__all__ = ["hdfs", "hdfs_root", "scratch", "valkey"]


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures and screenshots are left for people."""
    directory = Path(os.environ.get("NIGHTSHIFT_ARTEFACTS") or tmp_path_factory.mktemp("artefacts"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in [n for n in os.environ if n.startswith("RECSYS_") and n != "RECSYS_HADOOP"]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _untraced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What long tests start is not traced for coverage: it would take up to thrice as long, and shorter ones show its code."""
    if request.node.get_closest_marker("marathon") or "e2e" in request.path.parts:
        for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
            monkeypatch.delenv(name)
