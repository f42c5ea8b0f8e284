"""The candidate: a night's lists become a version in Redis, and a run that previews it in the night's experiment.

In go ``recommendations/date=D`` and what was live as the night began; out come the version, the run and its arms.
"""

from typing import TypedDict

import redis

from recsys.experiments import EXPERIMENT, Arm, Experiment, RunSpec
from recsys.night.catalogue import dated
from recsys.night.night import Night
from recsys.schemas import Inputs
from recsys.versions import publish, restore
from recsys.versions.content import read_directory
from recsys.versions.lease import Lease
from recsys.versions.runs import open_run


class Candidate(TypedDict):
    """A published candidate: its version, the base and the seed of the run that previews it, the names of the arms.

    The world's first ``listeners`` play it, with its first ``tracks``.
    """

    version: str
    base: str
    seed: int
    listeners: int
    tracks: int
    arms: list[str]


def publish_candidate(night: Night, client: redis.Redis, held: Lease) -> Candidate:
    """Publish the lists as a version and register the night's run.

    Raises:
        MissingDataError: there are no lists, or those of the version that the candidate is compared with are gone.
    """
    store = night.store
    content = read_directory(store.local(night.recommendations))
    version = publish.publish_version(client, content, night.log_date, held=held)
    arms = [Arm("C", "contextual", version), Arm("T1", "dae", version)]
    if content.sessions:
        arms.append(Arm("T2", "session", version))
    baseline = Inputs.read(store, night.log_date).live
    if baseline and baseline != version:
        restore.bring_back(client, store, baseline, held=held)
        arms.append(Arm("L", "dae", baseline))
    experiment, world = Experiment(EXPERIMENT, tuple(arms), str(night.log_date)), dated(night)
    spec = RunSpec(version, version, 0.0, night.seed, experiment, world.tracks, world.retired).marked()
    open_run(client, spec)
    return {
        "version": version,
        "base": spec.base,
        "seed": night.seed,
        "listeners": world.listeners or 0,
        "tracks": world.tracks,
        "arms": [arm.name for arm in arms],
    }
