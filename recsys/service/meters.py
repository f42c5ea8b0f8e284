"""What ``/metrics`` tells: of one worker, or of all where they write into one directory (``PROMETHEUS_MULTIPROC_DIR``)."""

import os
from collections import Counter
from collections.abc import Iterable
from functools import cache

import prometheus_client as prom
from prometheus_client import multiprocess

REQUESTS = prom.Counter("recsys_requests", "Requests answered, by route and status", ["route", "status"])
ANSWERS = prom.Counter("recsys_answers", "Tracks answered, by source", ["source"])
GIVEN_UP = prom.Counter("recsys_given_up", "Requests whose clients had gone when a worker that had stood still came to them")
UNKNOWN_TRACKS = prom.Counter("recsys_unknown_tracks", "Plays of tracks that tracks.json does not have")
TRACKS = prom.Gauge("recsys_tracks", "Tracks of tracks.json as it was last taken", multiprocess_mode="mostrecent")
REFUSED = prom.Gauge(
    "recsys_world_refused", "1 while a file of the world has changed into one that is not taken", multiprocess_mode="mostrecent"
)
DEGRADED = prom.Counter("recsys_degraded", "Answers given without Redis")
LATENCY = prom.Histogram(
    "recsys_latency_seconds",
    "Time to answer a request",
    ["route"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)


def count_answers(sources: Iterable[str]) -> None:
    """Count tracks by what chose them, many at a time."""
    for source, count in Counter(sources).items():
        _answered(source).inc(count)


def count_requests(route: str, status: int, seconds: list[float]) -> None:
    """Count requests of one route and status, each with the time that its answer took."""
    counter, histogram = _of(route, status)
    counter.inc(len(seconds))
    for each in seconds:
        histogram.observe(each)


def text() -> bytes:
    """All of it, as Prometheus reads it."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return prom.generate_latest()
    registry = prom.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return prom.generate_latest(registry)


@cache
def _of(route: str, status: int) -> tuple[prom.Counter, prom.Histogram]:
    return REQUESTS.labels(route, status), LATENCY.labels(route)


@cache
def _answered(source: str) -> prom.Counter:
    return ANSWERS.labels(source)
