"""A night that Airflow runs on a whole platform, of which one part after the other is killed: ``--airflow``.

In go a seed, a night's number and a directory; out come the history and what was struck. A run that fails is cleared from its
failed tasks on, as a person would.
"""

import asyncio
import json
import signal
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import psutil
import redis.asyncio

from recsys.platform import night as dags
from recsys.platform.client import FINISHED
from tests.nemesis.client import Listeners
from tests.nemesis.history import History, Reference, read_redis
from tests.nemesis.stage import DAE, RULE
from tests.support.airflow import DATES, TRACKS, USERS, Stack, days, stack

DAY = DATES[-1]
RUN = "nemesis"
#: How likely each is to be struck. The platform starts a part again, three times within ten minutes.
PARTS = {"scheduler": 4, "api-server": 1, "triggerer": 1, "dag-processor": 1, "valkey": 2, "service": 2, "worker": 2, "task": 4}
SIGNALS = {signal.SIGKILL: 4, signal.SIGTERM: 1, signal.SIGSTOP: 2}
#: Seconds within which faults strike after the trigger, for which a part is stopped, and within which the night must have ended.
STRIKING, STOPPED, LONGEST = 70.0, 6.0, 900.0
TIMES_CLEARED = 5


class Fault(NamedTuple):
    """Seconds after the trigger, a part, a signal."""

    at: float
    part: str
    signal: signal.Signals

    def __str__(self) -> str:
        return f"{self.part} {self.signal.name} after {self.at:.1f} s"


def draw(seed: int, number: int) -> list[Fault]:
    """What strikes a night, and when."""
    rng = Random(f"nemesis airflow {seed} {number}")
    faults = [
        Fault(
            round(rng.uniform(0.0, STRIKING), 2),
            rng.choices(list(PARTS), list(PARTS.values()))[0],
            rng.choices(list(SIGNALS), list(SIGNALS.values()))[0],
        )
        for _ in range(rng.randint(2, 5))
    ]
    return sorted(faults)


async def play(seed: int, number: int, directory: Path) -> tuple[History | None, list[str], list[str]]:
    """As :func:`tests.nemesis.night.play`."""
    settings = {
        "RECSYS_MODEL": "ease", "RECSYS_SIMULATION": "process", "RECSYS_DAE": str(directory / "dae.json"),
        "RECSYS_PROMOTION": str(directory / "promotion.yml"), "RECSYS_AIRFLOW_PARALLELISM": "3",
    }  # fmt: skip
    (directory / "dae.json").write_text(DAE)
    (directory / "promotion.yml").write_text(RULE)
    with stack(directory, **settings) as platform:
        await asyncio.to_thread(platform.play, *days(DAY, 2))
        digest = await asyncio.to_thread(platform.without_airflow, DAY)
        (platform.var / "storage").rename(directory / "undisturbed")
        (platform.var / "storage").mkdir()
        (directory / "undisturbed" / "logs").rename(platform.var / "storage" / "logs")
        for name in directory.glob("undisturbed/catalogue"):
            name.rename(platform.var / "storage" / "catalogue")
        return await _disturbed(platform, draw(seed, number), f"{seed} {number}", Reference(digest, directory / "undisturbed"))


async def _disturbed(
    platform: Stack, faults: list[Fault], seed: str, reference: Reference
) -> tuple[History | None, list[str], list[str]]:
    problems: list[str] = []
    listeners = Listeners(platform.settings.port_service, range(USERS), TRACKS, 3, seed, platform.var / "listeners.jsonl")
    platform.client.set_paused(dags.NIGHT, False)
    listeners.start()
    platform.client.trigger(dags.NIGHT, RUN, {"log_date": str(DAY), "promote": "no"})
    striking = [asyncio.create_task(_strike(platform, fault)) for fault in faults]
    state = await _until_ended(platform)
    struck = list(await asyncio.gather(*striking))
    unanswered = await listeners.stop(60)
    if state != "success":
        problems.append(f"the run ended {state}: {await asyncio.to_thread(platform.story, dags.NIGHT, RUN)}")
        return None, struck, problems
    digest = await asyncio.to_thread(platform.verified, DAY)
    await asyncio.to_thread(platform.cli, "storage", "clean")
    client = redis.asyncio.Redis.from_url(platform.settings.redis_url.get_secret_value())
    held = await read_redis(client.execute_command, [])
    await client.aclose()
    outputs = {"service": (platform.var / "log" / "service.log").read_text(errors="replace")}
    history = History(
        tracks=TRACKS, exploration=0.0, events=listeners.events, unanswered=unanswered, logs=platform.settings.log_dir,
        storage=platform.var / "storage", redis=held, digests={str(DAY): digest}, expected={str(DAY): reference},
        outputs=outputs, service_restarted=any(fault.part == "service" for fault in faults),
    )  # fmt: skip
    return history, struck, problems


async def _until_ended(platform: Stack) -> str:
    """The run's state once it has ended; what has failed is cleared."""
    loop = asyncio.get_running_loop()
    deadline, cleared = loop.time() + LONGEST, 0
    while loop.time() < deadline:
        state = ""
        with suppress(Exception):  # the api-server may be the part that is away
            state = (await asyncio.to_thread(platform.client.run, dags.NIGHT, RUN))["state"]
        if state == "success" or (state in FINISHED and cleared == TIMES_CLEARED):
            return state
        if state in FINISHED:
            cleared += 1
            body = {"dry_run": False, "dag_run_id": RUN, "only_failed": True, "reset_dag_runs": True}
            await asyncio.to_thread(platform.client.call, "POST", f"/dags/{dags.NIGHT}/clearTaskInstances", body)
        await asyncio.sleep(1)
    return f"not within {LONGEST:g} s"


async def _strike(platform: Stack, fault: Fault) -> str:
    await asyncio.sleep(fault.at)
    found = await asyncio.to_thread(_processes, platform, fault.part)
    for process in found:
        with suppress(psutil.Error):
            process.send_signal(fault.signal)
    if fault.signal == signal.SIGSTOP:
        await asyncio.sleep(STOPPED)
        for process in found:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)
    return f"{fault}{'' if found else ': nothing there'}"


def _processes(platform: Stack, part: str) -> list[psutil.Process]:
    """The processes of a part that are there now: one, but for what stands or falls with all."""
    with suppress(psutil.Error):
        if part == "task":
            tasks = platform.client.tasks(dags.NIGHT, RUN)
            return [psutil.Process(task["pid"]) for task in tasks if task["state"] == "running" and task.get("pid")][:1]
        recorded = json.loads((platform.var / "platform.json").read_text())
        process = psutil.Process([each["pid"] for each in recorded if each["name"] == part.replace("worker", "service")][-1])
        return process.children()[:1] if part == "worker" else [process]
    return []
