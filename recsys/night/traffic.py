"""Traffic of a log date: simulated listeners, served by what is live, or the requests of real ones.

In go a night's log date and a number of sessions; out comes ``logs/date=D``, from which nights learn.
"""

import logging
from collections.abc import Sequence
from typing import TypedDict

from recsys.exceptions import CorruptDataError, InvalidInputError, MissingDataError
from recsys.experiments import RunSpec
from recsys.logs import real_listeners
from recsys.logs.upload import upload_shards
from recsys.night.catalogue import dated
from recsys.night.night import Night, night_seed
from recsys.schemas import ShardResult
from recsys.simulate.growth import Growth, grow
from recsys.simulate.shards import shards_of, simulate_all
from recsys.versions import keyspace, lease, pointer
from recsys.versions.runs import open_run, registered

log = logging.getLogger(__name__)

#: Events a call when traffic is played; a night uses single requests unless told otherwise.
BATCH = 256
#: Sessions of a log date's traffic unless told otherwise.
SESSIONS = 20_000
SEED_SHIFT = 1
GROWTH_SEED_SHIFT = 4


class Plan(TypedDict):
    """A registered run of traffic: its base, the version that serves it ("" for none), its seed, whether the date is there.

    The world's first ``listeners`` play it, with its first ``tracks``.
    """

    base: str
    version: str
    seed: int
    listeners: int
    tracks: int
    done: bool


def plan(night: Night, *, rebuild: bool = False) -> Plan:
    """Register a run of simulated traffic, served by what is live. Before a date's first one the world grows, if it is set to.

    Only where experiments are simulated, listeners are: requests of real ones are stored, and the date is done; without
    experiments a date is done by whoever imports or uploads it.

    Args:
        rebuild: play the date though it is there; its logs are replaced once the new ones are whole.

    Raises:
        CorruptDataError: the date is there, but damaged. InvalidInputError: what real listeners did cannot be played again, or
            the world cannot grow. MissingDataError: nobody asked for anything on the date, or nobody has stored it.
            WorldError: see :func:`recsys.night.catalogue.dated`.
    """
    settings = night.settings
    done = _is_there(night, rebuild=rebuild)
    if settings.traffic_growth and not night.store.is_complete(night.logs):
        _let_grow(night)
    if settings.experiment_source != "simulate" and not done:
        _take(night)
        done = True
    client = keyspace.connect(settings)
    version = pointer.read(client).version
    seed = night_seed(settings.seed + SEED_SHIFT, night.log_date)
    share = settings.exploration if version else 1.0
    world = dated(night)
    spec = RunSpec(f"traffic-{night.log_date}", version, share, seed, None, world.tracks, world.retired).marked()
    if not done:
        open_run(client, spec)
    return {
        "base": spec.base,
        "version": version,
        "seed": seed,
        "listeners": world.listeners or 0,
        "tracks": world.tracks,
        "done": done,
    }


def _let_grow(night: Night) -> None:
    """Let the world grow before the traffic of its log date, once; a retry or a rebuild finds it grown."""
    settings = night.settings
    setting = f"RECSYS_TRAFFIC_GROWTH is {settings.traffic_growth!r}"
    if settings.experiment_source != "simulate":
        raise InvalidInputError(
            f"{setting}, but RECSYS_EXPERIMENT_SOURCE is {settings.experiment_source}: only simulated listeners arrive that way; "
            "unset one of the two"
        )
    seed = night_seed(settings.seed + GROWTH_SEED_SHIFT, night.log_date)
    try:
        grow(night.world, Growth.parse(settings.traffic_growth), seed=seed, log_date=night.log_date)
    except InvalidInputError as error:
        raise type(error)(f"{setting}: {error}") from None


def _is_there(night: Night, *, rebuild: bool) -> bool:
    """Whether the log date needs nothing more."""
    if not night.store.is_complete(night.logs):
        return False
    if rebuild and night.settings.experiment_source != "simulate":
        raise InvalidInputError(f"{night.logs} holds what real listeners did, which cannot be played again; restore a backup")
    if not rebuild and not night.store.is_intact(night.logs):
        raise CorruptDataError(f"{night.logs} in {night.store.url} does not match its manifest; rebuild the date, or restore it")
    return not rebuild


def _take(night: Night) -> None:
    """Store what nobody simulates."""
    if night.settings.experiment_source == "live":
        real_listeners.upload(night.settings, night.log_date, lambda: dated(night))
        return
    raise MissingDataError(
        f"{night.logs} is not in {night.store.url}, and nobody is simulated (RECSYS_EXPERIMENT_SOURCE=none); import the log date "
        "with 'recsys import'"
    )


def upload(night: Night, base: str, results: Sequence[ShardResult]) -> dict[str, int]:
    """Move the traffic's logs into the storage as ``logs/date=D``."""
    spec = registered(keyspace.connect(night.settings), base)
    return upload_shards(night.store, night.settings.log_dir, results, night.logs, spec, cleanup=True)


def collect(night: Night, sessions: int = SESSIONS, *, run: str, rebuild: bool = False) -> dict[str, int]:
    """Simulated listeners of one log date, served by what is live; nothing if the date is there already.

    Args:
        run: names the tries of its shards, and holds the log date. rebuild: as :func:`plan`.

    Raises:
        ConflictError: another run works on the log date.
    """
    with lease.held(keyspace.connect(night.settings), night.log_date, run):
        planned = plan(night, rebuild=rebuild)
        if planned["done"]:
            log.info("%s is there already", night.logs)
            return night.store.manifest(night.logs).counts
        parts = shards_of(
            planned["base"],
            planned["version"],
            seed=planned["seed"],
            episodes=sessions,
            shards=night.settings.shards,
            batch=BATCH,
            listeners=planned["listeners"],
            tracks=planned["tracks"],
        )
        return upload(night, planned["base"], simulate_all(night.settings, parts, run))
