"""A real HDFS for tests: a NameNode and a DataNode, shared by all tests of a session; whoever kills one brings it back."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.platform.hdfs import Hdfs

#: For a test's parameters: a storage on files, and on the HDFS of the tests.
SCHEMES = ["file", pytest.param("webhdfs", marks=[pytest.mark.real, pytest.mark.xdist_group("hdfs")])]
_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """A running HDFS."""
    # Small blocks, so that small files span several and quotas of space can be small too.
    settings = {"dfs.blocksize": "1048576", "dfs.namenode.fs-limits.min-block-size": "65536"}
    cluster = Hdfs(tmp_path_factory.mktemp("hdfs"), settings)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def hdfs_root(hdfs: Hdfs) -> str:
    """URL of a directory of this test's own."""
    return f"{hdfs.url}/test-{next(_NUMBERS)}"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Local copies of remote directories stand in a directory of this test's own."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    return directory
