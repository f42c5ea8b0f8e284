"""``python -m benchmarks [NAME …|alternatives] [--quick] [--json PATH] [--world DIR]``: measures in, a table and JSON out."""

import os

# As the original was measured: arithmetic libraries use one thread; the training measures set their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.measure import Bench, Result, surroundings, table, write_json
from recsys.exceptions import RecsysError

#: Where each measure is, in the order in which all of them run.
MEASURES = {
    "service": "service",
    "simulate_single": "simulation",
    "simulate_batch": "simulation",
    "simulate_alone": "simulation",
    "startup": "startup",
    "redis_memory": "memory",
    "service_memory": "memory",
    "collect": "analysis",
    "collect_memory": "analysis",
    "abtest": "analysis",
    "recommend": "training",
    "epoch": "training",
    "train": "training",
}
#: Ours against what an engineer would write with well-known libraries: not in a run of all, but under one name of their own.
ALTERNATIVES = ("service_fastapi", "client_aiohttp", "recommend_dense", "collect_duckdb")


def run(name: str, bench: Bench) -> Result:
    """Run one measure."""
    module = import_module(f"benchmarks.{MEASURES.get(name, 'alternatives.measures')}")
    result: Result = getattr(module, f"measure_{name}")(bench)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measures named on the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    results: list[Result] = []
    try:
        for name in _expanded(arguments.names):
            with surroundings(arguments.world, arguments.quick) as bench:
                results.append(run(name, bench))
            print(table(results[-1:], _other(name)), flush=True)
            if arguments.json:
                write_json(arguments.json, results)
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    for other in ("reference", "alternative"):
        short = [replace(result, detail={}) for result in results if _other(result.name) == other]
        if len(results) > 1 and short:
            print("\n" + table(short, other))
    return 0


def _expanded(names: Sequence[str]) -> list[str]:
    return [each for name in names or MEASURES for each in (ALTERNATIVES if name == "alternatives" else (name,))]


def _other(name: str) -> str:
    """What the other side of a measure is called."""
    return "alternative" if name in ALTERNATIVES else "reference"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure Nightshift against the reference.")
    known = f"measures; all without one: {', '.join(MEASURES)}; or alternatives: {', '.join(ALTERNATIVES)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=known, type=_name)
    parser.add_argument("--quick", action="store_true", help="end within 45 seconds a measure")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here")
    parser.add_argument("--world", type=Path, metavar="DIR", help="world directory; default RECSYS_WORLD, or a generated one")
    return parser


def _name(text: str) -> str:
    known = (*MEASURES, *ALTERNATIVES, "alternatives")
    if text not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is no measure; there are {', '.join(known)}")
    return text


if __name__ == "__main__":
    sys.exit(main())
