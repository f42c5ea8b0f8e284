"""Runs that preview versions: a specification in, kept in Redis under its base, so that the service can answer for it."""

import redis

from recsys.exceptions import ConflictError, MissingDataError
from recsys.experiments import RunSpec
from recsys.versions import keyspace

RUN_TTL = 14 * 86_400


def open_run(client: redis.Redis, spec: RunSpec) -> None:
    """Register what the run ids ``<base>.<shard>.<try>`` are served from; kept for two weeks.

    Raises:
        ConflictError: the base is registered with something else.
    """
    key, data = keyspace.run_key(spec.base), spec.to_json()
    if not client.set(key, data, ex=RUN_TTL, nx=True) and client.get(key) != data.encode():
        raise ConflictError(f"run {spec.base} is registered with another specification; wait for its end or change the seed")


def registered(client: redis.Redis, base: str) -> RunSpec:
    """What a run is served from.

    Raises:
        MissingDataError: it is not registered.
    """
    data = client.get(keyspace.run_key(base))
    if data is None:
        raise MissingDataError(f"run {base} is not registered in Redis; publish its version again")
    return RunSpec.parse(data, f"run {base} in Redis")
