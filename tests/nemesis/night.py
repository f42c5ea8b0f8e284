"""One night, played: commands, listeners and faults side by side, then everything that they left.

In go a plan, a directory, a world and where undisturbed nights are found; out come the history and what was struck. A command
that fails or is killed is run again, as a person or Airflow would.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import date
from pathlib import Path

from recsys.platform.hdfs import Hdfs
from recsys.storage.store import Storage
from tests.nemesis.checker import CONFLICT
from tests.nemesis.client import Event, Listeners
from tests.nemesis.ending import end
from tests.nemesis.faults import strike
from tests.nemesis.history import POINTER, History, Reference, Snapshot, read_redis
from tests.nemesis.launcher import Launcher
from tests.nemesis.plan import Command, Plan
from tests.nemesis.stage import Stage

TRACKS, USERS, WORLD_SEED = 400, 150, 5
#: How often a command is tried, and seconds before the next try.
TRIES, PAUSE = 15, 0.5
#: Seconds after which a night must have come to an end.
NIGHT_SECONDS = 400.0
WATCH_EVERY = 0.05

#: The undisturbed night at the end of some commands.
References = Callable[[tuple[Command, ...]], Awaitable[Reference]]


class UnfinishedError(Exception):
    """The night did not come to an end."""


class Night:
    """A night under way."""

    def __init__(self, plan: Plan, stage: Stage, hdfs: Hdfs | None) -> None:
        self.plan, self.stage, self.hdfs = plan, stage, hdfs
        self.struck: list[str] = []
        self.seen: list[str] = []
        self.snapshots: list[Snapshot] = []
        self.appeared = {kind: asyncio.Event() for kind in {fault.after for fault in plan.faults if fault.after}}

    async def play(self, prepared: Path | None) -> tuple[list[Event], list[Event]]:
        """Play it; gives the listeners' events, and those that got no answer.

        Args:
            prepared: a storage with the traffic, if that is there already.
        """
        stage, plan = self.stage, self.plan
        if prepared:
            await asyncio.to_thread(self._prepare, prepared)
        await stage.open()
        record = stage.directory / "listeners.jsonl"
        edge = stage.behind["edge"].port
        listeners = Listeners(edge, range(USERS), TRACKS, plan.listeners, f"{plan.seed} {plan.number}", record)
        listeners.start()
        watch = [asyncio.create_task(self._watch_pointer()), asyncio.create_task(self._watch_storage())]
        faults = [asyncio.create_task(strike(stage, fault, self.appeared, self.hdfs)) for fault in plan.faults]
        try:
            async with asyncio.timeout(NIGHT_SECONDS):
                for step in plan.commands:
                    await asyncio.gather(*[self._until_done(command, faults) for command in step])
                for event in self.appeared.values():
                    event.set()
                # What waits for a moment that does not come any more strikes now, or finds nothing.
                self.struck = list(await asyncio.gather(*faults))
                await stage.ready("valkey")
                await stage.ready("service")
        except TimeoutError:
            raise UnfinishedError(f"the night did not come to an end within {NIGHT_SECONDS:g} s") from None
        finally:
            # Each fault mends what it has broken.
            await end((*watch, *faults))
            unanswered = await listeners.stop(60)
        return listeners.events, unanswered

    async def _until_done(self, command: Command, faults: list[asyncio.Task[str]]) -> None:
        tries = 0
        while (ran := await self.stage.run(command)).status != 0:
            # A try counts once nothing disturbs it any more; one that waits for the other run does not.
            tries += all(task.done() for task in faults) and ran.status != CONFLICT
            if tries == TRIES:
                raise UnfinishedError(f"'{ran.command}' failed {TRIES} times though nothing was in its way: {ran.output[-600:]}")
            await asyncio.sleep(PAUSE)

    async def history(self, events: list[Event], unanswered: list[Event], references: References) -> History:
        """Everything that is left, read once all has ended."""
        stage, plan = self.stage, self.plan
        for proxy in stage.behind.values():
            proxy.losing = 0
        nights = sorted({command for step in plan.commands for command in step if command.name == "nightly"})
        digests = {}
        for command in nights:
            ran = await stage.run(("verify", "--date", str(command.log_date), "--json"))
            digests[str(command.log_date)] = json.loads(ran.output.splitlines()[-1])["digest"] if ran.status == 0 else ""
        await stage.run(("storage", "clean"))
        redis = await read_redis(self.stage.ask, self.snapshots)
        status, left = await stage.close()
        storage = await asyncio.to_thread(self._storage)
        outputs = {name: (stage.directory / f"{name}.out").read_text(errors="replace") for name in ("service", "valkey")}
        (stage.directory / "redis.txt").write_text("\n".join(map(str, (redis.pointer, *redis.moves, *redis.leases))))
        found = History(
            tracks=TRACKS, exploration=plan.exploration, events=events, unanswered=unanswered, logs=stage.disks["logs"],
            storage=storage, redis=redis, digests=digests, commands=stage.ran, outputs=outputs, left=left, seen=self.seen,
            service_restarted=any(told.startswith("service.") for told in self.struck),
            alone=plan.order in ("one", "sequence"),
        )  # fmt: skip
        if status != 128 + 15:
            found.left.append(f"the service ended with status {status} after SIGTERM")
        for command in nights:
            found.expected[str(command.log_date)] = await references(self._before(command, storage))
        return found

    def _before(self, night: Command, storage: Path) -> tuple[Command, ...]:
        """The commands of the undisturbed night with the same baseline, in their order."""
        flat = [command for step in self.plan.nights for command in step]
        if self.plan.order == "sequence":
            return tuple(flat[: flat.index(night) + 1])
        inputs = json.loads((storage / "interactions" / f"date={night.log_date}" / "inputs.json").read_bytes())
        live = inputs.get("live", "")
        before = (Command("nightly", date.fromisoformat(live[:10])),) if live else ()
        return (*before, night)

    def _prepare(self, prepared: Path) -> None:
        if not self.hdfs:
            shutil.copytree(prepared, self.stage.disks["var"] / "storage", dirs_exist_ok=True)
            return
        store = Storage(self.stage.storage)
        for path in sorted(path for path in prepared.rglob("*") if path.is_file()):
            target = f"{store.root}/{path.relative_to(prepared)}"
            store.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            store.fs.put_file(str(path), target)

    def _storage(self) -> Path:
        """The storage, or a local copy of it."""
        if not self.hdfs:
            return self.stage.disks["var"] / "storage"
        target, store = self.stage.directory / "storage", Storage(self.stage.storage)
        for path in store.fs.find(store.root):
            copy = target / path.split(f"{store.root}/", 1)[1]
            copy.parent.mkdir(parents=True, exist_ok=True)
            store.fs.get_file(path, str(copy))
        return target

    async def _watch_pointer(self) -> None:
        while True:
            held = await self.stage.ask("HMGET", f"{POINTER}live", "generation", "version")
            if isinstance(held, list) and held[0] is not None:
                found = Snapshot(int(held[0]), held[1].decode())
                if self.snapshots[-1:] != [found]:
                    self.snapshots.append(found)
            await asyncio.sleep(WATCH_EVERY)

    async def _watch_storage(self) -> None:
        """Look at what is visible while it is written: files alone, where a look costs little."""
        while True:
            for directory in self.stage.disks["var"].glob("storage/*/date=*"):
                if directory.parent.name in self.appeared:
                    self.appeared[directory.parent.name].set()
                with suppress(FileNotFoundError):
                    self._look(directory)
            if self.hdfs:
                await self._watch_hdfs()
            await asyncio.sleep(WATCH_EVERY)

    async def _watch_hdfs(self) -> None:
        for kind, event in self.appeared.items():
            with suppress(Exception):
                if await asyncio.to_thread(Storage(self.stage.storage).dates, kind):
                    event.set()
        await asyncio.sleep(0.5)

    def _look(self, directory: Path) -> None:
        """A directory stays itself while it is open, also if it goes to the trash meanwhile."""
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Of the directory that is open, whatever its name is by now.
            missing = {"manifest.json", "_SUCCESS"} - set(os.listdir(handle))  # noqa: PTH208
            if missing and directory.exists() and os.fstat(handle).st_ino == directory.stat().st_ino:
                self.seen.append(f"{directory.parent.name}/{directory.name} without {', '.join(sorted(missing))}")
        finally:
            os.close(handle)


async def play(
    plan: Plan, directory: Path, world: Path, launcher: Launcher, references: References, hdfs: Hdfs | None = None
) -> tuple[History | None, list[str], list[str]]:
    """A night's history, what was struck, and what went wrong before there was a history."""
    prepared = None if plan.traffic else (await references(())).storage
    storage = f"{hdfs.url}/{directory.name}-{os.getpid()}" if hdfs else ""
    stage = Stage(directory, plan, world, launcher, storage)
    night = Night(plan, stage, hdfs)
    history = None
    problems: list[str] = []
    try:
        events, unanswered = await night.play(prepared)
        history = await night.history(events, unanswered, references)
    except (UnfinishedError, TimeoutError) as error:
        problems.append(str(error) or "a part did not get ready")
        await stage.close()
    return history, night.struck, problems
