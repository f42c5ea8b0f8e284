"""Ends tasks: in go some that run, and after it none does."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any

#: Seconds that a task has before it is told again.
AGAIN = 0.5


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended, whatever came of them.

    Once is not enough: what a task awaits may swallow its cancellation, as Redis's client and ``asyncio.wait_for`` do if an
    answer comes at that moment.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=AGAIN)
    for task in tasks:
        with suppress(BaseException):
            task.exception()
