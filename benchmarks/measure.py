"""What every measure shares: its surroundings in, a :class:`Result` out, and how results are shown and written."""

import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recsys.exceptions import InvalidInputError

WORLD_FILES = ("tracks.json", "tracks.npy", "users.json")


@dataclass(frozen=True)
class Bench:
    """The surroundings of a measure.

    Attributes:
        world: directory with tracks.json, tracks.npy, users.json.
        quick: whether the measure must end within 45 seconds.
        scratch: an empty directory for files of this run.
        cache: a directory whose files later runs find again.
    """

    world: Path
    quick: bool
    scratch: Path
    cache: Path


@dataclass(frozen=True)
class Result:
    """One measure: ``ratio`` says how many times better ours is (for seconds and bytes: how many times less)."""

    name: str
    unit: str
    ours: float
    reference: float
    ratio: float
    detail: dict[str, Any] = field(default_factory=dict)


def more_is_better(name: str, unit: str, ours: float, reference: float, detail: dict[str, Any] | None = None) -> Result:
    """A result in a unit of which more is better, such as requests/s."""
    return Result(name, unit, _short(ours), _short(reference), _short(ours / reference), detail or {})


def less_is_better(name: str, unit: str, ours: float, reference: float, detail: dict[str, Any] | None = None) -> Result:
    """A result in a unit of which less is better, such as seconds."""
    return Result(name, unit, _short(ours), _short(reference), _short(reference / ours), detail or {})


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def milliseconds(seconds: Sequence[float], share: float) -> float:
    """A quantile of durations, in milliseconds."""
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


def median(values: Sequence[float]) -> float:
    """The median of repeated measurements."""
    return statistics.median(values)


def write_json(path: Path, results: Sequence[Result]) -> None:
    """Write one result as an object, several as a list."""
    rows = [asdict(result) for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows[0] if len(rows) == 1 else rows, indent=1) + "\n")


def table(results: Sequence[Result], other: str = "reference") -> str:
    """Results as a table, details below each line; ``other`` heads the other side's column."""
    lines = [f"{'measure':<18}{'unit':<22}{'ours':>12}{other:>12}{'ratio':>10}"]
    for r in results:
        lines.append(f"{r.name:<18}{r.unit:<22}{r.ours:>12,.5g}{r.reference:>12,.5g}{r.ratio:>10,.4g}")
        lines += [f"    {key}: {_shown(value)}" for key, value in r.detail.items()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    return f"{value:,.5g}" if isinstance(value, float) else str(value)


@contextmanager
def surroundings(world: Path | None, quick: bool) -> Iterator[Bench]:
    """A Bench whose scratch directory lasts as long as the block.

    Args:
        world: a world directory; None: ``RECSYS_WORLD``, or else one that is generated once.

    Raises:
        InvalidInputError: the directory is not a world.
    """
    cache = Path(os.environ.get("RECSYS_VAR", "var")).resolve() / "benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    if world is None and "RECSYS_WORLD" in os.environ:
        world = Path(os.environ["RECSYS_WORLD"])
    if world is None:
        from recsys.simulate.world import generate

        world = cache / "world"
        generate(world)
    missing = [name for name in WORLD_FILES if not (world / name).is_file()]
    if missing:
        raise InvalidInputError(f"world {str(world)!r} has no {', '.join(missing)}; give a world directory")
    with tempfile.TemporaryDirectory(prefix="run-", dir=cache) as scratch:
        yield Bench(world.resolve(), quick, Path(scratch), cache)
