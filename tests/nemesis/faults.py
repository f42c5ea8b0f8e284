"""The faults: each strikes a part of the stage, lasts, and is mended, whatever happens meanwhile.

:func:`strike` waits for a fault's moment and does it; it gives a sentence that says what was struck, or that nothing was there.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import psutil

from recsys.platform.hdfs import Hdfs
from tests.nemesis import clock
from tests.nemesis.plan import Fault
from tests.nemesis.proxy import Proxy
from tests.nemesis.stage import Stage

#: What a worker had written of a line when it was killed.
TORN = b'{"message":"next","timestamp":1767'
#: Seconds for which a fault waits for something to strike.
SEARCH = 4.0
#: The furthest that the clock steps, in seconds.
FURTHEST = 36 * 3600.0


async def strike(stage: Stage, fault: Fault, appeared: dict[str, asyncio.Event], hdfs: Hdfs | None) -> str:
    """Wait for the moment, then do it."""
    if fault.after:
        await appeared[fault.after].wait()
    await asyncio.sleep(fault.at)
    target, _, how = fault.kind.partition(".")
    async with _TARGETS[target](stage, how, fault, hdfs) as told:
        await asyncio.sleep(fault.lasts)
    return f"{fault.kind}: {told}"


@asynccontextmanager
async def _valkey(stage: Stage, how: str, fault: Fault, _: Hdfs | None) -> AsyncIterator[str]:
    if how == "flush":
        await stage.ask("FUNCTION", "FLUSH")
        yield "its functions forgotten"
        return
    async with _part(stage, "valkey", how) as told:
        yield told


@asynccontextmanager
async def _service(stage: Stage, how: str, fault: Fault, _: Hdfs | None) -> AsyncIterator[str]:
    async with _part(stage, "service", how) as told:
        yield told


@asynccontextmanager
async def _part(stage: Stage, name: str, how: str) -> AsyncIterator[str]:
    """Kill, end or stop a part with all its processes; ``orphan`` kills its first process alone."""
    part = stage.parts[name]
    child = part.child
    if child is None or part.pid is None:
        yield "it was not running"
        return
    if how == "stop":
        child.signal(signal.SIGSTOP, group=True)
        try:
            yield f"{name} stopped"
        finally:
            child.signal(signal.SIGCONT, group=True)
        return
    part.down += 1
    try:
        child.signal(signal.SIGTERM if how == "term" else signal.SIGKILL, group=how == "kill")
        yield f"{name} {how}"
    finally:
        part.down -= 1


@asynccontextmanager
async def _wire(proxy: Proxy, how: str, fault: Fault) -> AsyncIterator[str]:
    """Disturb what goes through a proxy."""
    if how == "refuse":
        proxy.refuse()
    elif how == "silence":
        proxy.silence(True)
    elif how == "delay":
        proxy.delay = 0.002 + 0.2 * fault.draw**2
    elif how == "cut":
        proxy.cut()
    else:
        proxy.losing += 1 + int(fault.draw * 6)
    try:
        yield how
    finally:
        proxy.delay = 0.0
        proxy.silence(False)
        await proxy.accept()


@asynccontextmanager
async def _redis(stage: Stage, how: str, fault: Fault, _: Hdfs | None) -> AsyncIterator[str]:
    who = "service" if fault.draw * 1000 % 1 < 0.5 else "commands"
    async with _wire(stage.behind[who], how, fault):
        yield f"between {who} and Valkey"


@asynccontextmanager
async def _edge(stage: Stage, how: str, fault: Fault, _: Hdfs | None) -> AsyncIterator[str]:
    async with _wire(stage.behind["edge"], how, fault):
        yield "between listeners and service"


@asynccontextmanager
async def _worker(stage: Stage, how: str, fault: Fault, _: Hdfs | None) -> AsyncIterator[str]:
    process = await _found(stage.workers, fault)
    if process is None:
        yield "no worker ran"
        return
    files = _open_logs(process) if how == "tear" else []
    async with _signalled(process, how):
        if how == "tear":
            # Nothing of its own may follow what is written in its name.
            await asyncio.to_thread(psutil.wait_procs, [process], 5)
        for path in files[:1]:
            with suppress(OSError), path.open("ab") as file:
                file.write(TORN[: 1 + int(fault.draw * (len(TORN) - 1))])
        yield f"worker {process.pid}"


@asynccontextmanager
async def _shard(stage: Stage, how: str, fault: Fault, _: Hdfs | None) -> AsyncIterator[str]:
    process = await _found(stage.shards, fault)
    if process is None:
        yield "no shard played"
        return
    async with _signalled(process, how):
        yield f"shard {process.pid}"


@asynccontextmanager
async def _signalled(process: psutil.Process, how: str) -> AsyncIterator[None]:
    number = {"term": signal.SIGTERM, "stop": signal.SIGSTOP}.get(how, signal.SIGKILL)
    with suppress(psutil.Error):
        process.send_signal(number)
    try:
        yield
    finally:
        if number == signal.SIGSTOP:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def _night(stage: Stage, how: str, fault: Fault, _: Hdfs | None) -> AsyncIterator[str]:
    child = await _found(lambda: list(stage.running.values()), fault)
    if child is None:
        yield "no command ran"
        return
    number = {"term": signal.SIGTERM, "interrupt": signal.SIGINT, "stop": signal.SIGSTOP}.get(how, signal.SIGKILL)
    stage.signal(child, number, group=how == "interrupt")
    told = " ".join(child.words)
    if how == "tear":
        told += f", torn: {_tear(stage, fault)}"
    try:
        yield told
    finally:
        if number == signal.SIGSTOP:
            child.signal(signal.SIGCONT)


def _tear(stage: Stage, fault: Fault) -> str:
    """Cut the newest unfinished file of what was killed, as a machine that lost its power may leave it."""
    if len(stage.running) > 1:
        return "nothing, as another command writes"
    var = stage.disks["var"]
    unfinished = [path for path in var.rglob("*") if path.is_file() and (".staging-" in str(path) or "work" in path.parts)]
    if not unfinished:
        return "nothing unfinished"
    path = max(unfinished, key=lambda path: path.stat().st_mtime)
    with suppress(OSError):
        os.truncate(path, int(path.stat().st_size * fault.draw))
    return str(path.relative_to(var))


@asynccontextmanager
async def _disk(stage: Stage, how: str, fault: Fault, _: Hdfs | None) -> AsyncIterator[str]:
    """Fill a disk, but for a few bytes."""
    disk = stage.disks["var" if how == "storage" else how]
    if not stage.has_disks:
        yield "only root can mount a small disk"
        return
    filler = disk / "filler"
    try:
        with suppress(OSError):
            room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, room - int(fault.draw**3 * 200_000)))
        yield f"{how} full"
    finally:
        filler.unlink(missing_ok=True)


@asynccontextmanager
async def _clock(stage: Stage, how: str, fault: Fault, _: Hdfs | None) -> AsyncIterator[str]:
    seconds = (2 * fault.draw - 1) ** 3 * FURTHEST
    clock.write(stage.clock, seconds)
    yield f"by {seconds:.1f} s"


@asynccontextmanager
async def _hdfs_part(stage: Stage, how: str, fault: Fault, hdfs: Hdfs | None) -> AsyncIterator[str]:
    name = fault.kind.partition(".")[0]
    assert hdfs is not None
    process = hdfs.processes[name]
    if how == "stop":
        process.send_signal(signal.SIGSTOP)
        try:
            yield f"{name} stopped"
        finally:
            process.send_signal(signal.SIGCONT)
        return
    hdfs.kill(name)
    try:
        yield f"{name} killed"
    finally:
        hdfs.launch(name)
        await asyncio.to_thread(hdfs.wait)


async def _found(look: Callable[[], list], fault: Fault):
    """One of what is there now, or a moment later; None if there is nothing."""
    deadline = asyncio.get_running_loop().time() + SEARCH
    while not (found := look()):
        if asyncio.get_running_loop().time() > deadline:
            return None
        await asyncio.sleep(0.02)
    return found[int(fault.draw * len(found))]


def _open_logs(process: psutil.Process) -> list[Path]:
    try:
        return [Path(file.path) for file in process.open_files() if file.path.endswith(".jsonl")]
    except psutil.Error:
        return []


_TARGETS: dict[str, Callable[[Stage, str, Fault, Hdfs | None], AbstractAsyncContextManager[str]]] = {
    "valkey": _valkey,
    "service": _service,
    "redis": _redis,
    "edge": _edge,
    "worker": _worker,
    "shard": _shard,
    "night": _night,
    "disk": _disk,
    "clock": _clock,
    "datanode": _hdfs_part,
    "namenode": _hdfs_part,
}
