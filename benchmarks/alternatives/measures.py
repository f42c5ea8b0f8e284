"""Ours against what a user would pick instead; the fair surroundings are those of the other measures."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import analysis, training
from benchmarks.alternatives import client, offline
from benchmarks.content import DAY, SEED, open_run, prepare
from benchmarks.histories import random_history
from benchmarks.measure import Bench, Result, less_is_better, median, more_is_better
from benchmarks.processes import HOST, free_port, nightshift, service_process, valkey
from benchmarks.service import compare
from recsys import catalog
from recsys.models.dae import WEIGHTS, Dae
from recsys.night.night import Night
from recsys.night.recommend import recommend
from recsys.settings import load_settings
from recsys.simulate.listeners import load_listeners
from recsys.simulate.run import SINGLE_REQUESTS, run_in_process, run_shard
from recsys.storage.store import Storage


@contextmanager
def fastapi_service(scratch: Path, files: Path, redis_url: str) -> Iterator[tuple[str, float]]:
    """The alternative service on the files of :mod:`benchmarks.content`; gives its URL and the seconds until it was ready."""
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.alternatives.service", "--port", str(port), "--redis-url", redis_url]
    words += ["--files", str(files), "--log", str(scratch / f"fastapi-{port}.jsonl")]
    with service_process(words, {}, scratch / "fastapi.log", f"http://{HOST}:{port}", "/openapi.json") as started:
        yield started


def measure_service_fastapi(bench: Bench) -> Result:
    """Requests per second of POST /next at 16 connections: FastAPI, redis.asyncio with hiredis, uvicorn with uvloop."""
    files = prepare(bench)
    with valkey(bench.scratch, durable=True) as redis_url, valkey(bench.scratch, durable=True) as other_url:
        run = open_run(bench, files, redis_url)
        with (
            nightshift(bench.scratch, bench.world, redis_url) as (ours, _),
            fastapi_service(bench.scratch, files, other_url) as (theirs, _),
        ):
            return compare(bench, "service_fastapi", (ours, run), (theirs, None), other="alternative")


def measure_client_aiohttp(bench: Bench) -> Result:
    """Episodes per second against our service, one request an event: our client and aiohttp's, for the same sessions."""
    rounds, episodes, theirs = (2, 4000, 400) if bench.quick else (3, 20_000, 2000)
    load_listeners(bench.world)
    began = time.perf_counter()
    listeners = load_listeners(bench.world)
    loading = time.perf_counter() - began
    ours, others, same = [], [], []
    with valkey(bench.scratch, durable=True) as redis_url:
        run = open_run(bench, prepare(bench), redis_url)
        with nightshift(bench.scratch, bench.world, redis_url) as (url, _):
            for number in range(rounds):
                seed = SEED + number
                result = run_shard(bench.world, url, episodes=episodes, seed=seed, run=f"{run}{number}", progress=False)
                ours.append(episodes / (result.seconds - loading))
                recommender = client.Aiohttp(url, f"{run}-other-{number}", SINGLE_REQUESTS)
                played = run_in_process(listeners, recommender, episodes=theirs, seed=seed, slots=SINGLE_REQUESTS, progress=False)
                recommender.close()
                others.append(theirs / played.seconds)
                again = run_shard(bench.world, url, episodes=theirs, seed=seed, run=f"{run}-ours-{number}", progress=False)
                same.append((again.next, again.mean_time) == (played.next, played.mean_time))
    detail = {"rounds": rounds, "episodes": episodes, "alternative_episodes": theirs, "same_sessions": all(same)}
    return more_is_better("client_aiohttp", "episodes/s", median(ours), median(others), detail)


def measure_recommend_dense(bench: Bench) -> Result:
    """Seconds for the top 50 of all users by the same weights: dense scores and torch.topk. Ours also spreads artists."""
    users, tracks = catalog.load_users(bench.world), catalog.load_tracks(bench.world).size
    history = random_history(len(users), tracks, training.POSITIVES)
    store = Storage(f"file://{bench.scratch / 'storage'}")
    training.publish_inputs(store, history, users, bench.scratch / "work")
    directory = store.local(f"models/date={DAY}")
    began = time.perf_counter()
    recommend(Night(DAY, load_settings(storage=store.url, world=bench.world)))
    ours = time.perf_counter() - began
    model = Dae()
    model.load(directory)
    began = time.perf_counter()
    best = model.best(history, 50)[0]
    lists = time.perf_counter() - began
    began = time.perf_counter()
    found = offline.dense_lists(directory / WEIGHTS, history, users, bench.scratch / "dense.jsonl")
    dense = time.perf_counter() - began
    detail = {
        "users": len(users),
        "tracks": tracks,
        "ours_ranking_alone_s": round(lists, 3),
        "same_first_track_share": round(float((best[:, 0] == found[:, 0]).mean()), 4),
    }
    return less_is_better("recommend_dense", "seconds", ours, dense, detail)


def measure_collect_duckdb(bench: Bench) -> Result:
    """Seconds from raw log rows to interactions and sessions: plain SQL on DuckDB, without checksums, counts or quarantine."""
    return replace(analysis.compare(bench, "collect", "logs", other="duckdb_collect"), name="collect_duckdb")
