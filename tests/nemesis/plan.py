"""What a night is and what happens to it, drawn from a seed: the same seed and number give the same plan on every machine.

In go a seed and a night's number; out comes a :class:`Plan` with its commands and its faults, which can be printed.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from random import Random
from typing import NamedTuple

DAY = date(2026, 1, 5)
#: Seconds that a command takes on an idle machine; moments are drawn from what all of them take.
SECONDS = {"traffic": 2.0, "nightly": 8.0}


class Scene(NamedTuple):
    """What decides what a night computes: the setting ``RECSYS_MODEL``, the session-aware arm, the window in log dates."""

    name: str
    model: str
    session_arm: bool = False
    window: int = 2


SCENES = (
    Scene("autoencoder", "dae"),
    Scene("items", "ease"),
    Scene("three dates", "ease", window=3),
    Scene("session-aware", "ease", session_arm=True),
    Scene("refused", "popularity"),
)


class Command(NamedTuple):
    """A command of the script: ``traffic`` or ``nightly``, of a log date."""

    name: str
    log_date: date

    def __str__(self) -> str:
        return f"{self.name} {self.log_date}"


class Fault(NamedTuple):
    """A fault.

    Attributes:
        kind: its name among :data:`KINDS`.
        after: kind of the directory whose appearance it waits for; empty: the night's begin.
        at: seconds after that. lasts: seconds until what it has broken is mended.
        draw: 0 to 1, what else there is to choose: which worker, how much of a file, how far the clock steps.
    """

    kind: str
    after: str
    at: float
    lasts: float
    draw: float

    def __str__(self) -> str:
        moment = f"{self.at:.2f} s after {self.after or 'the begin'}"
        return f"{self.kind} {moment}, for {self.lasts:.2f} s, draw {self.draw:.3f}"


#: How likely each kind is beside the others, and how many seconds it may last.
KINDS = {
    "valkey.kill": (3, 4.0),
    "valkey.term": (1, 3.0),
    "valkey.stop": (3, 4.0),
    "valkey.flush": (1, 0.0),
    "redis.refuse": (2, 4.0),
    "redis.silence": (2, 4.0),
    "redis.delay": (2, 4.0),
    "redis.cut": (2, 0.0),
    "redis.lose": (3, 0.0),
    "edge.refuse": (1, 4.0),
    "edge.silence": (2, 6.0),
    "edge.cut": (2, 0.0),
    "edge.lose": (3, 0.0),
    "worker.kill": (3, 0.0),
    "worker.term": (1, 0.0),
    "worker.stop": (3, 6.0),
    "worker.tear": (2, 0.0),
    "service.kill": (2, 2.0),
    "service.orphan": (1, 1.0),
    "service.term": (1, 2.0),
    "service.stop": (2, 4.0),
    "shard.kill": (2, 0.0),
    "shard.term": (1, 0.0),
    "shard.stop": (2, 5.0),
    "night.kill": (4, 0.0),
    "night.term": (2, 0.0),
    "night.interrupt": (1, 0.0),
    "night.stop": (2, 5.0),
    "night.tear": (3, 0.0),
    "disk.storage": (3, 3.0),
    "disk.logs": (2, 3.0),
    "disk.valkey": (2, 3.0),
    "clock.step": (2, 5.0),
}
#: These replace the full disk of the storage where it is an HDFS.
HDFS_KINDS = {"datanode.kill": (3, 3.0), "namenode.kill": (2, 3.0), "datanode.stop": (2, 4.0), "namenode.stop": (2, 4.0)}
#: What a fault may wait for: the directories that a night writes, in their order.
MARKS = ("interactions", "models", "gates", "recommendations", "experiments", "reports", "promotions")
ORDERS = {"one": 5, "sequence": 2, "both": 2, "twice": 2}


@dataclass(frozen=True)
class Plan:
    """A night, or two.

    Attributes:
        order: one night; two in sequence; both at once; twice the same at once.
        traffic: whether its traffic is played under the faults, too; else it is there.
        shards, batch, workers: how it is played and served, which may not change what comes out.
        listeners: how many live listeners there are. exploration: share of random answers to them.
        clock: whether commands and service follow a clock that may step.
    """

    seed: int
    number: int
    scene: Scene
    order: str
    traffic: bool
    shards: int
    batch: int
    workers: int
    listeners: int
    exploration: float
    clock: bool
    faults: tuple[Fault, ...]

    @property
    def preparation(self) -> list[Command]:
        """The traffic that is there before the first night."""
        days = range(1 - self.scene.window, 1 + (self.order == "both"))
        return [Command("traffic", DAY + timedelta(days=back)) for back in days]

    @property
    def nights(self) -> list[list[Command]]:
        """What follows; the commands of an inner list run side by side."""
        first, second = Command("nightly", DAY), Command("nightly", DAY + timedelta(days=1))
        return {
            "one": [[first]],
            "sequence": [[first], [Command("traffic", second.log_date)], [second]],
            "both": [[first, second]],
            "twice": [[first, first]],
        }[self.order]

    @property
    def commands(self) -> list[list[Command]]:
        """The whole script."""
        return [*([[command] for command in self.preparation] if self.traffic else []), *self.nights]

    def __str__(self) -> str:
        script = "; ".join(" beside ".join(map(str, step)) for step in self.commands)
        served = f"{self.workers} workers, {self.listeners} listeners (exploration {self.exploration}), clock {self.clock}"
        lines = [
            f"night {self.number} of seed {self.seed}: {self.scene.name}, {self.order}",
            f"  {script}",
            f"  {self.shards} shards, batch {self.batch}, {served}",
            *(f"  {fault}" for fault in self.faults),
        ]
        return "\n".join(lines)


def draw(seed: int, number: int, *, hdfs: bool = False) -> Plan:
    """The plan of a night.

    Args:
        hdfs: whether the storage is an HDFS, whose parts are struck, too.
    """
    rng = Random(f"nemesis {seed} {number}")
    plan = Plan(
        seed=seed,
        number=number,
        scene=rng.choices(SCENES, (2, 4, 2, 2, 1))[0],
        order=rng.choices(list(ORDERS), list(ORDERS.values()))[0],
        traffic=rng.random() < 0.35,
        shards=rng.choice((1, 2)),
        batch=rng.choice((0, 0, 16, 256)),
        workers=rng.choice((1, 2, 2, 3)),
        listeners=rng.randint(2, 6),
        exploration=rng.choice((0.0, 0.2)),
        clock=rng.random() < 0.25,
        faults=(),
    )
    kinds = KINDS | HDFS_KINDS if hdfs else KINDS
    weights = {
        kind: weight
        for kind, (weight, _) in kinds.items()
        if (kind != "clock.step" or plan.clock) and (kind != "disk.storage" or not hdfs)
    }
    seconds = sum(max(SECONDS[command.name] for command in step) for step in plan.commands)
    faults = [_fault(rng, kind, kinds[kind][1], seconds) for kind in _kinds(rng, weights, plan.clock)]
    return replace(plan, faults=tuple(sorted(faults, key=lambda fault: (bool(fault.after), fault.at))))


def _kinds(rng: Random, weights: dict[str, int], clock: bool) -> list[str]:
    found = rng.choices(list(weights), list(weights.values()), k=rng.choice((1, 2, 2, 3, 3, 4, 5)))
    return [*found, *(["clock.step"] if clock and "clock.step" not in found else [])]


def _fault(rng: Random, kind: str, longest: float, seconds: float) -> Fault:
    after = rng.choice(MARKS) if rng.random() < 0.5 else ""
    at = rng.expovariate(2.0) if after else rng.uniform(0.0, seconds)
    return Fault(kind, after, round(at, 3), round(rng.uniform(0.2, 1.0) * longest, 3), round(rng.random(), 6))
