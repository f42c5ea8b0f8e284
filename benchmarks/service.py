"""POST /next under load: our service and the reference, the same client, 16 connections and one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.content import open_run, prepare
from benchmarks.load import Load, drive
from benchmarks.measure import Bench, Result, more_is_better
from benchmarks.processes import free_port, nightshift, reference_service, valkey
from recsys import catalog

CONNECTIONS = 16
WARM_UP = 1.0


def measure_service(bench: Bench) -> Result:
    """Requests per second of POST /next at 16 connections; response times, and one connection, in the detail."""
    with both_services(bench) as (our_url, run, reference_url):
        return compare(bench, "service", (our_url, run), (reference_url, None))


def compare(bench: Bench, name: str, *sides: tuple[str, str | None], other: str = "reference") -> Result:
    """Drive two running services, each by its URL and the run id to send: ours and the one that is called ``other``."""
    rounds, seconds = (2, 3.0) if bench.quick else (3, 8.0)
    sizes = len(catalog.load_users(bench.world)), catalog.load_tracks(bench.world).size
    for url, run_id in sides:
        drive(url, CONNECTIONS, WARM_UP, *sizes, run_id)
    # In turns, so that whatever else the machine does meets both sides alike.
    many = [[drive(url, CONNECTIONS, seconds, *sizes, run_id) for url, run_id in sides] for _ in range(rounds)]
    one = [[drive(url, 1, seconds / 3, *sizes, run_id) for url, run_id in sides] for _ in range(rounds)]
    ours, reference = (_together(loads) for loads in zip(*many, strict=True))
    ours_1, reference_1 = (_together(loads).summary() for loads in zip(*one, strict=True))
    detail = {
        "ours": ours.summary(),
        other: reference.summary(),
        "ours_1_connection": ours_1,
        f"{other}_1_connection": reference_1,
        "p99_lower": ours.summary()["p99_ms"] < reference.summary()["p99_ms"],
    }
    return more_is_better(name, "requests/s", ours.rate, reference.rate, detail)


@contextmanager
def both_services(bench: Bench) -> Iterator[tuple[str, str, str]]:
    """Both services: the URL of ours and a run id for it, the URL of the reference."""
    files = prepare(bench)
    port = free_port()
    with valkey(bench.scratch, durable=True) as redis_url, valkey(bench.scratch, port=port):
        run = open_run(bench, files, redis_url)
        with (
            nightshift(bench.scratch, bench.world, redis_url) as (our_url, _),
            reference_service(bench.scratch, files, port) as (reference_url, _),
        ):
            yield our_url, run, reference_url


def _together(loads: Sequence[Load]) -> Load:
    return Load(
        sum(load.seconds for load in loads),
        [duration for load in loads for duration in load.durations],
        sum(load.errors for load in loads),
    )
