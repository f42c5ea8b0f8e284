"""One worker process: the event loop with the application, and Granian's engine that serves a listening socket.

Granian is called below its command line: that one would start a task for each request, and a worker there does not share what was
loaded before it was forked.
"""

import asyncio
import logging
import os
import resource
import signal
import socket
from typing import Any

import uvloop
from granian import _granian
from granian.http import HTTP1Settings

from recsys.service.app import App
from recsys.service.edge import BEAT, Edge

log = logging.getLogger(__name__)

#: The package's types of what is compiled are not those of this version.
_compiled: Any = _granian

#: Connections that wait for a worker to take them, and that it holds; the next ones wait until one closes.
BACKLOG, CONNECTIONS = 2048, 8192
#: Files that a worker needs beside its connections: logs of runs, Redis, what Python and Granian hold.
OTHER_FILES = 128
#: Bytes of a head, or of pipelined requests, that are held of one connection. A longer head is refused; one that is not twice as
#: long may pass if all of it comes at once.
MAX_HEAD = 48 * 1024
#: Seconds within which a head must have come, which is also how long a connection may be idle.
HEAD_SECONDS = 30.0
#: Seconds that requests under way have once the worker is to stop.
GRACE = 10.0


def work(app: App, listening: socket.socket, parent: int) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent is gone; requests under way are finished.

    Args:
        parent: a file that ends with the parent process.
    """
    logging.getLogger("_granian").setLevel(logging.WARNING)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_serve(app, listening, parent, loop))
    logging.shutdown()


async def _serve(app: App, listening: socket.socket, parent: int, loop: asyncio.AbstractEventLoop) -> None:
    asked, over = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    loop.add_reader(parent, asked.set)
    await app.start(loop)
    edge = Edge(loop, app)
    stop = _compiled.WorkerSignal()
    stop.add_cb(lambda: loop.call_soon_threadsafe(over.set))
    _engine(listening).serve_str(edge.scheduler, edge, stop)
    watching = asyncio.create_task(_watch(edge))
    await asked.wait()
    loop.remove_reader(parent)
    stop.set()
    try:
        await asyncio.wait_for(over.wait(), GRACE)
    except TimeoutError:
        log.warning("connections are still open %g s after the worker was told to stop; they are cut", GRACE)
    watching.cancel()
    await app.stop()


def _engine(listening: socket.socket) -> Any:
    holder = _compiled.SocketHolder(os.dup(listening.fileno()), False, BACKLOG)
    listening.close()
    limits = HTTP1Settings(header_read_timeout=int(HEAD_SECONDS * 1000), max_buffer_size=MAX_HEAD)
    # Without pipeline_flush, which loses the answers before a request that is refused: test_pipelining would fail.
    # HTTP/1.1 alone: where the engine also takes HTTP/2, a connection that stays silent is never closed.
    return _compiled.RSGIWorker(
        1, (None, holder), None, threads=1, blocking_threads=1, py_threads=1, backpressure=_connections(), http_mode="1",
        http1_opts=limits,
    )  # fmt: skip


def _connections() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(8, min(CONNECTIONS, soft - OTHER_FILES)) if soft != resource.RLIM_INFINITY else CONNECTIONS


async def _watch(edge: Edge) -> None:
    while True:
        await asyncio.sleep(BEAT)
        edge.beat()
        edge.give_up()
