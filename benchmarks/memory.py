"""How much of Redis a published version takes: lists of 50 for very many users, measured by publishing them."""

import pickle
import time

import numpy as np
import redis

from benchmarks.content import DAY, SEED
from benchmarks.measure import Bench, Result, less_is_better
from benchmarks.processes import free_port, valkey
from recsys import publish
from recsys.keyspace import LIBRARY
from recsys.schemas import LIST_LENGTH, NEIGHBOURS, TOP_LENGTH

GIB = 2**30
TRACKS = 50_000


def measure_redis_memory(bench: Bench) -> Result:
    """GiB per million users and version."""
    users, reference_users = (200_000, 20_000) if bench.quick else (1_000_000, 100_000)
    rng = np.random.default_rng(SEED)
    lists = rng.integers(0, TRACKS, (users, LIST_LENGTH), dtype=np.uint32)
    neighbours = rng.integers(0, TRACKS, (TRACKS, NEIGHBOURS), dtype=np.uint32)
    with valkey(bench.scratch) as url, redis.Redis.from_url(url) as client:
        client.function_load(LIBRARY.read_text(), replace=True)
        content = publish.Content(
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


def _used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])
