"""``python -m benchmarks [NAME …] [--quick] [--json PATH] [--world DIR]``: measures in, a table and JSON out."""

import os

# As the original was measured: arithmetic libraries use one thread; the training measures set their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import sys
from collections.abc import Sequence
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


def run(name: str, bench: Bench) -> Result:
    """Run one measure."""
    module = import_module(f"benchmarks.{MEASURES[name]}")
    result: Result = getattr(module, f"measure_{name}")(bench)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measures named on the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    results: list[Result] = []
    try:
        for name in arguments.names or MEASURES:
            with surroundings(arguments.world, arguments.quick) as bench:
                results.append(run(name, bench))
            print(table(results[-1:]), flush=True)
            if arguments.json:
                write_json(arguments.json, results)
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    if len(results) > 1:
        print("\n" + table([Result(r.name, r.unit, r.ours, r.reference, r.ratio) for r in results]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure Nightshift against the reference.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"measures; all without one: {', '.join(MEASURES)}", type=_name)
    parser.add_argument("--quick", action="store_true", help="end within 45 seconds a measure")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here")
    parser.add_argument("--world", type=Path, metavar="DIR", help="world directory; default RECSYS_WORLD, or a generated one")
    return parser


def _name(text: str) -> str:
    if text not in MEASURES:
        raise argparse.ArgumentTypeError(f"{text!r} is no measure; there are {', '.join(MEASURES)}")
    return text


if __name__ == "__main__":
    sys.exit(main())
