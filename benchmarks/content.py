"""Something to recommend for any world: seeded lists, neighbours and a TOP 100, in the formats of both sides."""

import hashlib
import json
import logging
import shutil
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import redis

from benchmarks.measure import Bench
from recsys import catalog
from recsys.experiments import EXPERIMENT, Arm, Experiment, RunSpec
from recsys.schemas import LIST_LENGTH, NEIGHBOURS, TOP_LENGTH
from recsys.versions import publish, runs
from recsys.versions.content import read_directory
from recsys.versions.functions import LIBRARY

log = logging.getLogger(__name__)

DAY = date(2026, 1, 2)
SEED = 31337


def prepare(bench: Bench) -> Path:
    """A directory with recommendations.json, top_tracks.json, neighbours.npy, and tracks.json with each track's neighbours.

    It is kept for later runs on the same tracks and users.
    """
    key = hashlib.sha256()
    for name in ("tracks.json", "users.json"):
        key.update((bench.world / name).read_bytes())
    final = bench.cache / f"content-{key.hexdigest()[:12]}"
    if final.is_dir():
        return final
    partial = Path(tempfile.mkdtemp(prefix=".content-", dir=bench.cache))
    try:
        _write(bench.world, partial)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _write(world: Path, directory: Path) -> None:
    rng = np.random.default_rng(SEED)
    tracks = catalog.load_tracks(world).size
    users = catalog.load_users(world).tolist()
    neighbours = rng.integers(0, tracks, (tracks, NEIGHBOURS), dtype=np.uint32)
    np.save(directory / "neighbours.npy", neighbours)
    with (directory / "recommendations.json").open("w") as file:
        for user in users:
            listed = rng.choice(tracks, min(LIST_LENGTH, tracks), replace=False).tolist()
            file.write(json.dumps({"user": user, "tracks": listed}) + "\n")
    top = rng.choice(tracks, min(TOP_LENGTH, tracks), replace=False).tolist()
    (directory / "top_tracks.json").write_text(json.dumps(top))
    with (world / "tracks.json").open() as source, (directory / "tracks.json").open("w") as file:
        for line in source:
            row = json.loads(line)
            row["recommendations"] = neighbours[row["track"]].tolist()
            file.write(json.dumps(row) + "\n")


def open_run(bench: Bench, files: Path, redis_url: str) -> str:
    """Publish the files for our service and open a run on them, half C and half T1; gives a run id of it."""
    client = redis.Redis.from_url(redis_url)
    LIBRARY.load(client)
    version = publish.publish_version(client, read_directory(files), DAY)
    arms = (Arm("C", "contextual", version), Arm("T1", "dae", version))
    spec = RunSpec("bench", version, 0.0, SEED, Experiment(EXPERIMENT, arms), catalog.load_tracks(bench.world).size)
    runs.open_run(client, spec)
    client.close()
    return "bench.0.a"
