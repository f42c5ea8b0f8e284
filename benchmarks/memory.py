"""Memory: of Redis for lists of very many users, measured by publishing them, and of the service after very many requests."""

import pickle
import time

import numpy as np
import psutil
import redis

from benchmarks.content import DAY, SEED, open_run, prepare
from benchmarks.load import drive
from benchmarks.measure import Bench, Result, less_is_better
from benchmarks.processes import free_port, nightshift, valkey
from recsys import catalog
from recsys.schemas import LIST_LENGTH, NEIGHBOURS, TOP_LENGTH
from recsys.versions import publish
from recsys.versions.content import Content
from recsys.versions.functions import LIBRARY

MIB, GIB = 2**20, 2**30
TRACKS = 50_000
CONNECTIONS = 16


def measure_redis_memory(bench: Bench) -> Result:
    """GiB per million users and version."""
    users, reference_users = (200_000, 20_000) if bench.quick else (1_000_000, 100_000)
    rng = np.random.default_rng(SEED)
    lists = rng.integers(0, TRACKS, (users, LIST_LENGTH), dtype=np.uint32)
    neighbours = rng.integers(0, TRACKS, (TRACKS, NEIGHBOURS), dtype=np.uint32)
    with valkey(bench.scratch) as url, redis.Redis.from_url(url) as client:
        LIBRARY.load(client)
        content = Content(
            {user: lists[user].tobytes() for user in range(users)}, lists[:2].tobytes()[: 4 * TOP_LENGTH], neighbours.tobytes()
        )
        before = _used(client)
        began = time.perf_counter()
        publish.publish_version(client, content, DAY)
        seconds = time.perf_counter() - began
        ours = (_used(client) - before) / GIB / users * 1e6
    with valkey(bench.scratch, port=free_port()) as url, redis.Redis.from_url(url) as client:
        before = _used(client)
        pipe = client.pipeline(transaction=False)
        for user in range(reference_users):
            pipe.set(user, pickle.dumps(lists[user].tolist()))
            if len(pipe) >= 1000:
                pipe.execute()
        pipe.execute()
        reference = (_used(client) - before) / GIB / reference_users * 1e6
    detail = {"users": users, "publish_seconds": round(seconds, 2), "publish_users_s": round(users / seconds), "bound": 0.35}
    return less_is_better("redis_memory", "GiB a million users", ours, reference, detail)


def measure_service_memory(bench: Bench) -> Result:
    """MiB resident in the service after two million requests, against itself after two hundred thousand."""
    early, late = (20_000, 100_000) if bench.quick else (200_000, 2_000_000)
    files = prepare(bench)
    sizes = len(catalog.load_users(bench.world)), catalog.load_tracks(bench.world).size
    with valkey(bench.scratch, durable=True) as redis_url:
        run = open_run(bench, files, redis_url)
        with nightshift(bench.scratch, bench.world, redis_url) as (url, _):
            service = next(p for p in psutil.Process().children() if "recsys.cli" in p.cmdline())
            requests, errors, resident = 0, 0, 0.0
            while requests < late:
                # Half of the load is a run's, half is live; every turn begins new sessions of the same users.
                load = drive(url, CONNECTIONS, 1.0 if bench.quick else 5.0, *sizes, run if requests % 2 else None)
                requests, errors = requests + len(load.durations), errors + load.errors
                if requests >= early and not resident:
                    resident, counted = service.memory_info().rss / MIB, requests
            after = service.memory_info().rss / MIB
    detail = {
        "requests": requests,
        "early_requests": counted,
        "errors": errors,
        "growth": round(after / resident, 4),
        "bound": 1.05,
    }
    return less_is_better("service_memory", "MiB", after, resident, detail)


def _used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])
