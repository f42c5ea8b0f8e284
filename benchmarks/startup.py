"""Seconds from starting the service to its first answer that it is ready; its version is in Redis already.

The original uploads catalogue and lists whenever it starts; ours finds them published.
"""

from contextlib import ExitStack

from benchmarks.content import open_run, prepare
from benchmarks.measure import Bench, Result, less_is_better, median
from benchmarks.processes import free_port, nightshift, reference_service, valkey
from recsys import catalog


def measure_startup(bench: Bench) -> Result:
    """Seconds until ready, in turns; the median of the rounds."""
    rounds = 3 if bench.quick else 7
    files = prepare(bench)
    port = free_port()
    ours, reference = [], []
    with valkey(bench.scratch, durable=True) as redis_url, valkey(bench.scratch, port=port):
        open_run(bench, files, redis_url)
        for _ in range(rounds):
            with ExitStack() as stack:
                ours.append(stack.enter_context(nightshift(bench.scratch, bench.world, redis_url))[1])
            with ExitStack() as stack:
                reference.append(stack.enter_context(reference_service(bench.scratch, files, port))[1])
    detail = {
        "tracks": catalog.load_tracks(bench.world).size,
        "users": len(catalog.load_users(bench.world)),
        "ours_s": [round(s, 3) for s in ours],
        "reference_s": [round(s, 3) for s in reference],
    }
    return less_is_better("startup", "seconds", median(ours), median(reference), detail)
