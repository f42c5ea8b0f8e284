"""Where a night is played: a Valkey, the service behind it, storage, all real, and proxies between them.

In go a directory, a plan and a world; out comes a :class:`Stage` with the environment of commands. Valkey and the service are
started again when they end, as a container's restart policy would, unless a fault keeps them down.
"""

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis.asyncio

from recsys.platform import components
from recsys.platform.ports import HOST, free_ports
from recsys.settings import Settings, environment_of, load_settings
from tests.nemesis import clock
from tests.nemesis.ending import end
from tests.nemesis.launcher import Child, Launcher
from tests.nemesis.plan import Command, Plan
from tests.nemesis.proxy import Proxy

ROOT = Path(__file__).parents[2]
CLONE_NEWNS = 0x00020000
DISKS = ("var", "logs", "valkey", "tmp")
DISK_BYTES = 128 * 2**20
START_SECONDS = 300.0
#: Seconds after which a command hangs: where it does is written to its output, and it is killed.
COMMAND_SECONDS = 240.0
#: Seconds from the end of a part to its next start.
RESTART = 0.3
DAE = '{"layers": [64], "epochs": 30, "patience": 20, "learning_rate": 0.02}'
#: Worlds are too small for a difference to show: nearly every candidate that is not refused is promoted.
RULE = """\
minimum_effect_percent: -99
margin: 0.99
"""

_OWN_MOUNTS = False


class Part:
    """A process that is kept running."""

    def __init__(self, name: str, words: Sequence[str], environment: dict[str, str], output: Path) -> None:
        self.name, self.words, self.environment, self.output = name, words, environment, output
        self.child: Child | None = None
        #: How many faults keep it down.
        self.down = 0

    @property
    def pid(self) -> int | None:
        """Its process; None if it does not run."""
        return self.child.pid if self.child and self.child.status is None else None


@dataclass
class Ran:
    """A try of a command: its words, its status, the signals it was sent, what it printed, seconds."""

    command: str
    status: int
    signals: list[int]
    output: str
    seconds: float


class Stage:
    """The parts of a night.

    Args:
        directory: everything stands below it. storage: URL of an HDFS directory, or empty for files.
    """

    def __init__(self, directory: Path, plan: Plan, world: Path, launcher: Launcher, storage: str = "") -> None:
        self.directory, self.plan, self.launcher = directory, plan, launcher
        self.has_disks = _mount(directory)
        self.disks = {name: directory / "disks" / name for name in DISKS}
        self.clock = directory / "clock"
        clock.write(self.clock, 0.0)
        # All at once, so that they are different ones.
        valkey_port, service_port, *before = free_ports(5)
        self.valkey_port, self.service_port = valkey_port, service_port
        targets = {"service": valkey_port, "commands": valkey_port, "edge": service_port}
        self.behind = {name: Proxy(port, target) for port, (name, target) in zip(before, targets.items(), strict=True)}
        self.running: dict[int, Child] = {}
        self.signalled: dict[int, list[int]] = {}
        self.ran: list[Ran] = []
        self.commands = directory / "commands"
        self.commands.mkdir()
        (directory / "dae.json").write_text(DAE)
        (directory / "promotion.yml").write_text(RULE)
        self.world = world
        self.storage = storage
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False
        self.parts: dict[str, Part] = {}

    async def open(self) -> None:
        """Start everything, and wait until it answers.

        Raises:
            TimeoutError: it does not.
        """
        for proxy in self.behind.values():
            await proxy.accept()
        listening = ("--bind", HOST, "--port", str(self.valkey_port))
        words = components.valkey_words(self.disks["valkey"], *listening)
        self.parts["valkey"] = Part("valkey", words, dict(os.environ), self.directory / "valkey.out")
        served = [*components.service_words(self.service_port), "--workers", str(self.plan.workers)]
        environment = self.environment("service")
        self.parts["service"] = Part("service", served, environment, self.directory / "service.out")
        for part in self.parts.values():
            self._tasks.append(asyncio.create_task(self._keep(part)))
            await self.ready(part.name)

    def settings(self, behind: str) -> Settings:
        """Settings of what reaches Valkey through one of the proxies; empty: as things are."""
        port = self.behind[behind].port if behind else self.valkey_port
        scene, plan = self.plan.scene, self.plan
        return load_settings(
            var=self.disks["var"], world=self.world, service_logs=self.disks["logs"], storage=self.storage,
            redis_url=f"redis://{HOST}:{port}/0", service_url=f"http://{HOST}:{self.behind['edge'].port}",
            model=scene.model, session_arm=scene.session_arm, window=scene.window, dae=self.directory / "dae.json",
            promotion=self.directory / "promotion.yml", shards=plan.shards, batch=plan.batch, episodes=600,
            live_exploration=plan.exploration,
        )  # fmt: skip

    def environment(self, behind: str) -> dict[str, str]:
        """Environment of a process that reaches Valkey through one of the proxies."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECSYS_", "COVERAGE_"))}
        own = environment_of(self.settings(behind)) | {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.disks["tmp"])}
        if self.storage:
            own |= {"RECSYS_HDFS_PATIENCE": "20"}  # seconds
        if self.plan.clock:
            own |= {clock.VARIABLE: str(self.clock), "PYTHONPATH": str(clock.DIRECTORY)}
        return kept | own

    async def run(self, command: Command | Sequence[str], sessions: int = 1000) -> Ran:
        """Run a command of ``recsys`` once."""
        if isinstance(command, Command):
            words = [command.name, "--date", str(command.log_date)]
            words += ["--sessions", str(sessions)] if command.name == "traffic" else []
        else:
            words = list(command)
        loop = asyncio.get_running_loop()
        started = loop.time()
        output = self.commands / f"{len(self.ran) + len(self.running):03d}-{words[0]}-{os.urandom(2).hex()}.out"
        output.touch()  # A command may be killed before it has opened it.
        child = await self.launcher.start(words, self.environment("commands"), output, forked=True)
        self.running[child.pid] = child
        try:
            status = await self._ended(child)
        finally:
            del self.running[child.pid]
        told = output.read_text(errors="replace")
        ran = Ran(" ".join(words), status, self.signalled.pop(child.pid, []), told, loop.time() - started)
        self.ran.append(ran)
        return ran

    async def _ended(self, child: Child) -> int:
        try:
            return await asyncio.wait_for(asyncio.shield(child.ended), COMMAND_SECONDS)
        except TimeoutError:
            child.signal(signal.SIGCONT, group=True)
            child.signal(signal.SIGUSR1)
            await asyncio.sleep(1)
            child.signal(signal.SIGKILL)
            return await asyncio.shield(child.ended)

    def signal(self, child: Child, number: int, *, group: bool = False) -> None:
        """Send a signal to a command, and note that it was sent."""
        self.signalled.setdefault(child.pid, []).append(number)
        child.signal(number, group=group)

    async def ready(self, name: str) -> None:
        """Wait until a part answers."""
        async with asyncio.timeout(START_SECONDS):
            while not await self._answers(name):
                await asyncio.sleep(0.05)

    async def _answers(self, name: str) -> bool:
        if name == "valkey":
            return bool(await self.ask("PING"))
        return await asyncio.to_thread(components.service_answers, f"http://{HOST}:{self.service_port}")

    async def ask(self, *words: str | int) -> object:
        """What Valkey replies, without a proxy in between; None if it does not."""
        client = redis.asyncio.Redis(port=self.valkey_port, socket_timeout=1.0, socket_connect_timeout=1.0)
        try:
            return await client.execute_command(*words)
        except (redis.RedisError, OSError):
            return None
        finally:
            with suppress(redis.RedisError, OSError):
                await client.aclose()

    def workers(self) -> list[psutil.Process]:
        """Worker processes of the service."""
        pid = self.parts["service"].pid
        return _children(pid) if pid else []

    def shards(self) -> list[psutil.Process]:
        """Simulation shards under way."""
        return [child for pid in list(self.running) for child in _children(pid)]

    async def _keep(self, part: Part) -> None:
        while not self._ending:
            if part.down:
                await asyncio.sleep(0.05)
                continue
            part.child = await self.launcher.start(part.words, part.environment, part.output)
            await asyncio.shield(part.child.ended)
            await asyncio.sleep(RESTART)

    async def close(self) -> tuple[int | None, list[str]]:
        """End everything in an orderly way; gives the service's status, and what was left running meanwhile."""
        self._ending = True
        statuses: dict[str, int | None] = {}
        for name in ("service", "valkey"):
            part = self.parts.get(name)
            if part is None or part.child is None:
                continue
            part.child.signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(part.child.ended), 60)
            statuses[name] = part.child.status
            part.child.signal(signal.SIGKILL, group=True)
        left = await self._left()
        await end(self._tasks)
        for proxy in self.behind.values():
            proxy.refuse()
        return statuses.get("service"), left

    async def _left(self) -> list[str]:
        """What still runs after some patience; it is killed."""

        async def gone() -> None:
            while _children(self.launcher.pid, recursive=True):
                await asyncio.sleep(0.1)

        with suppress(TimeoutError):
            await asyncio.wait_for(gone(), 60)
        left = []
        for process in _children(self.launcher.pid, recursive=True):
            with suppress(psutil.Error):
                left.append(f"{process.pid}: {' '.join(process.cmdline())[:300]}")
                process.kill()
        return left


def _children(pid: int, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        found = psutil.Process(pid).children(recursive=recursive)
        return [child for child in found if child.status() != psutil.STATUS_ZOMBIE]
    except psutil.Error:
        return []


def save(directory: Path) -> None:
    """Copy a stage's disks, which are gone with this process, beside them."""
    for name in DISKS:
        shutil.copytree(directory / "disks" / name, directory / name, symlinks=True, dirs_exist_ok=True)


def own_mounts() -> None:
    """Let this process and what it starts mount disks that nobody else sees, if it is root's."""
    global _OWN_MOUNTS
    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) == 0:
        _OWN_MOUNTS = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode == 0


def _mount(directory: Path) -> bool:
    """Give the night disks of its own, which nobody else sees and which vanish with it; False if only root could."""
    disks = directory / "disks"
    for name in DISKS:
        (disks / name).mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "nemesis"]
    return _OWN_MOUNTS and all(subprocess.run([*words, str(disks / name)], check=False).returncode == 0 for name in DISKS)
