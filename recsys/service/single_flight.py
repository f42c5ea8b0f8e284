"""One load for all who wait for it: a key in, its value out; who asks while it is under way gets what the first one gets."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Loads under way by key; nothing is kept once a load has ended, well or badly.

    Args:
        load: loads the value of a key.
    """

    def __init__(self, load: Callable[[str], Awaitable[T]]) -> None:
        self._load = load
        self._under_way: dict[str, asyncio.Future[T]] = {}

    async def get(self, key: str) -> T:
        """The value of a key, or the error of its load; a caller that is cancelled leaves the load to the others."""
        loading = self._under_way.get(key)
        if loading is None:
            loading = self._under_way[key] = asyncio.ensure_future(self._load(key))
            loading.add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(loading)
