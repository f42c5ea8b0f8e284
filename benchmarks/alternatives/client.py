"""Listeners that ask our service through aiohttp, one request an event, all sessions in flight at once."""

import asyncio

import aiohttp
import numpy as np
import orjson
import uvloop

from recsys.simulate.play import Plays


class Aiohttp:
    """A recommender for :func:`recsys.simulate.run.run_in_process`: the sessions are ours, only who carries them differs."""

    def __init__(self, url: str, run: str, connections: int) -> None:
        self._loop = uvloop.new_event_loop()
        self._client = self._loop.run_until_complete(self._open(url, run, connections))

    def next(self, plays: Plays) -> np.ndarray:
        """The answered tracks."""
        return np.array([answer["track"] for answer in self._loop.run_until_complete(self._ask("next", plays))], np.int64)

    def last(self, plays: Plays) -> None:
        """These sessions end."""
        self._loop.run_until_complete(self._ask("last", plays))

    def close(self) -> None:
        """End all connections."""
        self._loop.run_until_complete(self._client.close())
        self._loop.close()

    async def _open(self, url: str, run: str, connections: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            url,
            connector=aiohttp.TCPConnector(limit=connections),
            headers={"X-Recsys-Run": run},
            json_serialize=lambda body: orjson.dumps(body).decode(),
        )

    async def _ask(self, route: str, plays: Plays) -> list[dict[str, int]]:
        rows = zip(*(column.tolist() for column in plays), strict=True)
        return await asyncio.gather(*[self._post(route, *row) for row in rows])

    async def _post(self, route: str, user: int, track: int, time: int, episode: int, step: int) -> dict[str, int]:
        body = {"track": track, "time": time / 100, "event": f"{episode}.{step}"}
        async with self._client.post(f"/{route}/{user}", json=body) as answer:
            answer.raise_for_status()
            return dict(await answer.json(loads=orjson.loads))
