"""Undisturbed nights: what a night must be equal to, however it was disturbed.

In go a plan and the commands up to a night; out come its digest and its storage, played once a scene and kept in a directory.
"""

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from recsys.inspection.verify import verify
from recsys.night.night import Night as NightOf
from tests.nemesis.history import Reference
from tests.nemesis.launcher import Launcher
from tests.nemesis.plan import Command, Plan
from tests.nemesis.stage import Stage

#: What does not change what a night computes, and is as simple as it can be.
CALM = {
    "traffic": True,
    "shards": 1,
    "batch": 256,
    "workers": 1,
    "listeners": 0,
    "exploration": 0.0,
    "clock": False,
    "faults": (),
}


class UndisturbedNights:
    """Plays them and keeps them.

    Args:
        directory: where they are kept, one directory a list of commands.
    """

    def __init__(self, directory: Path, world: Path) -> None:
        self._directory, self.world = directory, world

    def directory_of(self, plan: Plan, commands: tuple[Command, ...]) -> Path:
        """Where the night at the end of these commands is kept; without commands, the traffic before them."""
        days = [f"{command.name[0]}{(command.log_date - plan.preparation[-1].log_date).days}" for command in commands]
        return self._directory / "-".join([plan.scene.name.replace(" ", "-"), str(len(plan.preparation)), *days])

    async def find(self, plan: Plan, commands: tuple[Command, ...], launcher: Launcher, beside: Path) -> Reference:
        """The one at the end of these commands; played in a directory below ``beside`` if it is not kept yet."""
        directory = self.directory_of(plan, commands)
        if not (directory / "digest").exists():
            if commands:
                await self.find(plan, (), launcher, beside)
            await self._play(plan, commands, Path(tempfile.mkdtemp(prefix="undisturbed-", dir=beside)), launcher)
        return Reference((directory / "digest").read_text(), directory / "storage")

    async def _play(self, plan: Plan, commands: tuple[Command, ...], scratch: Path, launcher: Launcher) -> None:
        calm = replace(plan, **CALM)
        stage = Stage(scratch, calm, self.world, launcher)
        try:
            if commands:
                shutil.copytree(self.directory_of(plan, ()) / "storage", stage.disks["var"] / "storage")
            await stage.open()
            for command in commands or calm.preparation:
                ran = await stage.run(command)
                if ran.status != 0:
                    raise RuntimeError(f"undisturbed '{ran.command}' ended with status {ran.status}: {ran.output}")
            digest = ""
            if commands:
                found = await asyncio.to_thread(verify, NightOf(commands[-1].log_date, stage.settings("")))
                assert not found.failures, found.failures
                digest = found.digest
            target = self.directory_of(plan, commands)
            target.mkdir(parents=True)
            shutil.copytree(stage.disks["var"] / "storage", target / "storage")
            (target / "digest").write_text(digest)
        finally:
            await stage.close()
