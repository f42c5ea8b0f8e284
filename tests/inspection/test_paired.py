"""Paired comparisons: right intervals, and a real run with common random numbers."""

import json
import math
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from recsys.abtest.schema import Paired
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import Arm, Experiment, RunSpec
from recsys.inspection.paired import compare_paired, play_paired
from recsys.night.catalogue import dated
from recsys.night.night import Night
from recsys.settings import environment_of
from recsys.simulate.growth import Growth, grow
from recsys.simulate.world import generate
from recsys.versions import keyspace, publish
from recsys.versions.content import read_directory
from tests.support.components import Service, Valkey, running
from tests.support.documents import night_of

DAY = date(2026, 1, 2)


def pair(rng: np.random.Generator, n: int, lift: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of the same users under two arms: what the user is like is common to both."""
    user = rng.lognormal(1.0, 0.8, n)
    return user * rng.lognormal(0, 0.3, n), lift * user * rng.lognormal(0, 0.3, n)


def test_the_interval_covers_and_gains() -> None:
    rng = np.random.default_rng(3)
    runs = [compare_paired(*pair(rng, 400, 1.1), "T1", "C") for _ in range(600)]
    covered = sum(run.ci_low_percent <= 10 <= run.ci_high_percent for run in runs)
    low, high = stats.binom.interval(0.999, 600, 0.95)
    assert low <= covered <= high
    assert 0.5 < np.mean([run.correlation for run in runs]) < 0.95
    for run in runs[:20]:
        shorter = math.log1p(run.ci_high_percent / 100) - math.log1p(run.ci_low_percent / 100)
        longer = math.log1p(run.unpaired_high_percent / 100) - math.log1p(run.unpaired_low_percent / 100)
        assert run.gain == pytest.approx((longer / shorter) ** 2, rel=0.02)
        assert run.gain > 2


def test_equal_arms_leave_no_noise_and_bad_values_are_refused() -> None:
    values = np.array([1.0, 2.0, 3.0])
    same = compare_paired(values, values, "T1", "C")
    assert (same.effect_percent, same.ci_low_percent, same.ci_high_percent, same.gain) == (0.0, 0.0, 0.0, None)
    for control, treatment in (
        ([1.0], [2.0]),
        ([1.0, 2.0], [1.0]),
        ([1.0, math.inf], [1.0, 2.0]),
        ([0.0, 0.0], [1.0, 2.0]),
        ([1.0, 1.0], [1.0, 2.0]),
    ):
        with pytest.raises(InvalidInputError):
            compare_paired(np.array(control), np.array(treatment), "T1", "C")


@pytest.mark.real
def test_a_night_is_played_again_with_common_random_numbers(valkey: Valkey, tmp_path: Path) -> None:
    world = tmp_path / "world"
    generate(world, tracks=400, artists=80, users=60)
    night = night_of(tmp_path, DAY, world=world, redis_url=valkey.url, shards=2)
    store, client = night.store, keyspace.connect(night.settings)
    with store.stage(night.recommendations) as staging:
        lines = (json.dumps({"user": user, "tracks": [(7 * user + k) % 400 for k in range(50)]}) for user in range(60))
        (staging / "recommendations.json").write_text("\n".join(lines) + "\n")
        (staging / "top_tracks.json").write_text(json.dumps(list(range(100))))
        np.save(staging / "neighbours.npy", (np.arange(400)[:, None] + np.arange(1, 21)).astype(np.uint32) % 400)
    version = publish.publish_version(client, read_directory(store.local(night.recommendations)), DAY)
    arms = (Arm("C", "contextual", version), Arm("T1", "dae", version))
    spec = RunSpec("night", version, 0.0, 1, Experiment("X", arms, str(DAY)), 400)
    with pytest.raises(MissingDataError):
        play_paired(night, 300, run="t1")
    with store.stage(night.experiment) as staging:
        spec.write(staging)
    with running(Service(environment_of(night.settings))) as service:
        night = Night(DAY, night.settings.model_copy(update={"service_url": service.url}))
        paired = play_paired(night, 600, run="t1")
        dated(night)
        grow(world, Growth(users=30, tracks=50), seed=1)
        assert play_paired(night, 600, run="t2") == paired, "by those who were there on the date"
    (row,) = paired.comparisons
    assert paired.simulation_only is True
    assert (row.arm, row.control, row.users) == ("T1", "C", 60)
    assert row.ci_low_percent <= row.effect_percent <= row.ci_high_percent
    assert row.correlation > 0.3
    assert row.gain is not None
    assert row.gain > 1
    assert Paired.read(store, DAY) == paired
    assert not list(night.settings.log_dir.glob("paired-*"))
