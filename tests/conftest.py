"""Fixtures that every test may use."""

import os

import pytest

from tests.support.components import valkey
from tests.support.hdfs import hdfs, hdfs_root, scratch

pytest_plugins = ["tests.support.drill", "tests.support.groups", "tests.support.leftovers"]
__all__ = ["hdfs", "hdfs_root", "scratch", "valkey"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in [n for n in os.environ if n.startswith("RECSYS_") and n != "RECSYS_HADOOP"]:
        monkeypatch.delenv(name)
