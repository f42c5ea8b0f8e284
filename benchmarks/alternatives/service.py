"""``POST /next`` and ``/last`` with FastAPI and redis.asyncio under uvicorn: a pipeline a request, everything typed.

In go the files of :mod:`benchmarks.content` and a Redis URL; it serves until it is ended. As in our service the history and the
listener's list stand in Redis, neighbours and the TOP 100 in memory, and every answer has its line in the log before it leaves.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import orjson
import redis
import redis.asyncio
import uvicorn
from fastapi import FastAPI
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from benchmarks.content import SEED
from benchmarks.rows import DESIGN

HISTORY_TTL = 86_400


class Play(BaseModel):
    """What was played, and which share of it."""

    track: int = Field(ge=0)
    time: float = Field(ge=0, le=1)


class Answer(BaseModel):
    """The next track."""

    user: int
    track: int


class Farewell(BaseModel):
    """The answer to a last play."""

    user: int


def upload(files: Path, redis_url: str) -> None:
    """Put every user's list into Redis, packed."""
    client = redis.Redis.from_url(redis_url)
    with client.pipeline(transaction=False) as pipe, (files / "recommendations.json").open("rb") as lines:
        for row in map(orjson.loads, lines):
            pipe.set(f"list:{row['user']}", np.array(row["tracks"], np.uint32).tobytes())
        pipe.execute()


def create_app(files: Path, redis_url: str, log: int) -> FastAPI:
    """The application; ``log`` is the file descriptor of its log."""
    app = FastAPI()
    store = redis.asyncio.Redis.from_url(redis_url)
    neighbours = np.load(files / "neighbours.npy").tolist()
    top = json.loads((files / "top_tracks.json").read_bytes())
    rng = np.random.default_rng(SEED)
    User = Annotated[int, InPath(ge=0)]

    def write(message: str, began: float, user: int, play: Play, arm: str, track: int | None) -> None:
        record = {
            "message": message,
            "timestamp": int(time.time() * 1000),
            "user": user,
            "track": play.track,
            "time": play.time,
            "latency": time.perf_counter() - began,
            "recommendation": track,
            "experiments": {DESIGN.name: arm},
        }
        os.write(log, orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    @app.post("/next/{user}")
    async def next_track(user: User, play: Play) -> Answer:
        began, key, arm = time.perf_counter(), f"history:{user}", DESIGN.arm_of(user).name
        async with store.pipeline(transaction=False) as pipe:
            pipe.rpush(key, play.track).expire(key, HISTORY_TTL).lrange(key, 0, -1)
            if arm == "T1":
                pipe.get(f"list:{user}")
            _, _, history, *listed = await pipe.execute()
        played = set(map(int, history))
        if arm == "T1":
            wanted = np.frombuffer(listed[0] or b"", np.uint32).tolist()
            track = next((track for track in wanted if track not in played), None)
        else:
            left = [track for track in neighbours[play.track] if track not in played]
            track = left[rng.integers(len(left))] if left else None
        if track is None:
            track = next((track for track in top if track not in played), top[0])
        write("next", began, user, play, arm, track)
        return Answer(user=user, track=track)

    @app.post("/last/{user}")
    async def last_track(user: User, play: Play) -> Farewell:
        began = time.perf_counter()
        await store.delete(f"history:{user}")
        write("last", began, user, play, DESIGN.arm_of(user).name, None)
        return Farewell(user=user)

    return app


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser("python -m benchmarks.alternatives.service")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    upload(arguments.files, arguments.redis_url)
    log = os.open(arguments.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    app = create_app(arguments.files, arguments.redis_url, log)
    uvicorn.run(
        app, host="127.0.0.1", port=arguments.port, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main()
