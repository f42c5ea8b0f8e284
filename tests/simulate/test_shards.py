"""Shards of a run, each in a process of its own: what they play is fixed when they are planned, though the world grows."""

import shutil
from pathlib import Path

import pytest

from recsys.settings import load_settings
from recsys.simulate.growth import Growth, grow
from recsys.simulate.shards import shards_of, simulate_all
from tests.simulate.conftest import TRACKS, USERS, random_policy, serving

pytestmark = pytest.mark.slow


def test_a_world_that_grows_between_two_shards_of_a_run_is_played_as_it_was(world: Path, tmp_path: Path) -> None:
    grown = Path(shutil.copytree(world, tmp_path / "grown"))
    known = {"seed": 4, "episodes": 60, "shards": 2, "batch": 0}
    with serving(random_policy) as server:
        settings = load_settings(world=world, service_url=server.url)
        results = simulate_all(settings, shards_of("before", "", **known), "a")
        before, server.events = sorted(server.events), []
        assert sum(result.episodes for result in results) == 60
        parts = shards_of("after", "", **known, listeners=USERS, tracks=TRACKS)
        settings = settings.model_copy(update={"world": grown})
        for part in parts:
            simulate_all(settings, [part], "a")
            grow(grown, Growth(users=40, tracks=60, retire=5), seed=1)
        assert sorted(server.events) == before
