"""An old and a new program on one Redis, each with server-side functions of its own, while one takes the place of the other."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.versions import keyspace
from tests.service.test_service import Stage, serving, wait_until
from tests.support.components import Service, Valkey, running

pytestmark = pytest.mark.real

BODY = {"track": 5, "time": 1.0}


def another_program(directory: Path) -> Path:
    """The package with a function of another name, and callers that want it by that name."""
    package = Path(keyspace.__file__).parents[1]
    shutil.copytree(package, directory / "recsys", ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in (("versions/functions.lua", "events'", "record'"), ("service/answers.py", 'events"', 'record"')):
        text = (directory / "recsys" / file).read_text()
        assert old in text
        (directory / "recsys" / file).write_text(text.replace(old, new))
    return directory


@pytest.fixture
def programs(tmp_path: Path, valkey: Valkey) -> Iterator[tuple[Stage, Service]]:
    with serving(tmp_path, valkey) as stage:
        newer = Service(stage.service.environment, directory=another_program(tmp_path / "newer"))
        with running(newer):
            yield stage, newer


def test_an_old_and_a_new_program_serve_side_by_side(programs: tuple[Stage, Service]) -> None:
    stage, newer = programs
    both = stage.service, newer
    for turn in range(3):
        for name, service in zip(("old", "new"), both, strict=True):
            header = {"X-Recsys-Run": f"night.{turn}.{name}"}
            wait_until(lambda: service.post("/next/3", BODY, **header)[0] == 200)  # noqa: B023 - it is called at once
            assert service.post("/next/3", BODY, **header)[0] == 200
        # Both come back and find what the other one has loaded.
        stage.client.client_kill_filter(_type="normal", skipme=True)
