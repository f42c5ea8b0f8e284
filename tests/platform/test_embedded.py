"""A command's own Valkey is found wherever temporary files stand."""

import tempfile
from pathlib import Path

import pytest

from recsys.platform.embedded import embedded
from recsys.settings import Settings
from recsys.versions import keyspace


@pytest.mark.real
def test_temporary_files_may_stand_in_a_directory_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="100%41?#@ ") as directory:
        monkeypatch.setattr("tempfile.tempdir", directory)
        with embedded(Settings(var=tmp_path / "var", world=tmp_path / "world"), service=False) as settings:
            assert keyspace.connect(settings).ping()
