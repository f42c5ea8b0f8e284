"""One stack for all tests of this directory, which run in the order of their files: building and starting it takes minutes."""

import time
from collections.abc import Iterator

import pytest

from tests.support.stack import SETTINGS, Stack, copy_sources, engine_of_tests


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack after `make stack`: built, healthy, three dates of traffic and a night."""
    directory = tmp_path_factory.mktemp("stack") / "clone"
    copy_sources(directory)
    with engine_of_tests() as host:
        made = Stack(directory, host)
        made.configure(**SETTINGS, **{name: str(port) for name, port in made.ports.items()})
        started = time.monotonic()
        try:
            print(made.run("make", "stack"))
            print(f"make stack: {time.monotonic() - started:.0f} s")
            yield made
        finally:
            made.run("docker/stack.sh", "reset", given=SETTINGS["COMPOSE_PROJECT_NAME"] + "\n", code=None)
