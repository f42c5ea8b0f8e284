"""From raw log rows to interactions and sessions (collect, collect_memory), and to a finished A/B analysis (abtest).

Each side works in a fresh process. Its libraries are loaded before the clock starts; the detail also tells what the whole process
took.
"""

import os
import resource
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path

from benchmarks.alternatives import offline
from benchmarks.content import DAY
from benchmarks.measure import Bench, Result, less_is_better, median
from benchmarks.processes import ROOT
from benchmarks.reference import pipeline
from benchmarks.rows import DESIGN, log_rows
from recsys.abtest.report import analyse
from recsys.night.collect import collect
from recsys.night.night import Night
from recsys.settings import load_settings
from recsys.storage.store import Storage

ROWS, QUICK_ROWS = 1_000_000, 300_000


def measure_collect(bench: Bench) -> Result:
    """Seconds from raw log rows to interactions and sessions."""
    return compare(bench, "collect", "logs")


def measure_abtest(bench: Bench) -> Result:
    """Seconds from raw log rows to the finished analysis; the detail also tells ours with report, pictures and page."""
    return compare(bench, "abtest", "experiments", beyond="abtest_report")


def measure_collect_memory(bench: Bench) -> Result:
    """GiB at the most while a night collects twenty log dates, against two of them."""
    rows, dates = (QUICK_ROWS, 4) if bench.quick else (ROWS, 20)
    files = log_rows(bench, rows) / "ours"
    store = bench.scratch / "storage"
    for back in range(dates):
        directory = store / "logs" / f"date={DAY - timedelta(days=back)}"
        directory.parent.mkdir(parents=True, exist_ok=True)
        with Storage(f"file://{store}").stage(f"logs/{directory.name}") as staging:
            for path in files.iterdir():
                os.link(path, staging / path.name)
    (seconds, _, ours), (_, _, two) = (_run(bench.world, "collect", str(store), str(window)) for window in (dates, 2))
    detail = {"rows": rows * dates, "seconds": round(seconds, 1), "reference": "two log dates", "bound": 4.0}
    return less_is_better("collect_memory", "GiB", ours, two, detail)


def compare(bench: Bench, name: str, prefix: str, *, other: str = "", beyond: str = "") -> Result:
    """Run the step ``name`` and its other side on the same rows, which stand below ``prefix``; ``beyond``: one more of ours."""
    rows = QUICK_ROWS if bench.quick else ROWS
    files = log_rows(bench, rows)
    store = bench.scratch / "storage"
    with Storage(f"file://{store}").stage(f"{prefix}/date={DAY}") as staging:
        for path in (files / "ours").iterdir():
            shutil.copyfile(path, staging / path.name)
    ours = []
    for number in range(1 if bench.quick else 3):
        copy = bench.scratch / f"storage-{number}"
        copy.mkdir()
        shutil.copytree(store / prefix, copy / prefix, copy_function=os.link)
        ours.append(_run(bench.world, name, str(copy)))
    out = bench.scratch / "reference"
    out.mkdir()
    reference = _run(bench.world, other or f"reference_{name}", str(files), str(out))
    detail = {
        "rows": rows,
        "ours_s": [round(step, 3) for step, _, _ in ours],
        "ours_process_s": round(median([whole for _, whole, _ in ours]), 3),
        f"{'alternative' if other else 'reference'}_process_s": round(reference[1], 3),
    }
    if beyond:
        detail[f"ours_{beyond}_s"] = round(_run(bench.world, beyond, str(copy))[0], 3)
    return less_is_better(name, "seconds", median([step for step, _, _ in ours]), reference[0], detail)


def _run(world: Path, *words: str) -> tuple[float, float, float]:
    """Seconds of a step, seconds of the process in which it ran, and the GiB that it held at the most."""
    command, environment = [sys.executable, "-m", "benchmarks.analysis", *words], os.environ | {"RECSYS_WORLD": str(world)}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
    seconds, gib = map(float, done.stdout.split()[-2:])
    return seconds, time.perf_counter() - began, gib


def _step(name: str, *words: str) -> float:
    """Run one side of a measure in this process; its seconds without loading libraries."""
    other = name.startswith(("reference_", "duckdb_"))
    for library in (
        ("pandas", "scipy.stats", "duckdb")
        if other
        else ("ibis", "duckdb", "pandas", "pyarrow", "scipy.stats", "matplotlib.pyplot", "tea_tasting", "jinja2")
    ):
        import_module(library)
    if not other:
        ibis = import_module("ibis")
        ibis.duckdb.connect().disconnect()
    logs = Path(words[0]) / "experiments" / f"date={DAY}"
    night = Night(DAY, load_settings(storage=f"file://{words[0]}", window=int(words[1]) if words[1:] and not other else 2))
    began = time.perf_counter()
    if name == "reference_collect":
        pipeline.collect(Path(words[0]) / "original.json", Path(words[1]))
    elif name == "reference_abtest":
        pipeline.analyse(Path(words[0]) / "original.json", DESIGN.name, "C", Path(words[1]))
    elif name == "duckdb_collect":
        offline.collect(Path(words[0]) / "ours", Path(words[1]))
    elif name == "collect":
        collect(night)
    elif name == "abtest":
        analyse(logs, DESIGN.name, "C", design=DESIGN)
    else:
        analyse(logs, DESIGN.name, "C", design=DESIGN, out=Path(words[0]) / "report")
    return time.perf_counter() - began


if __name__ == "__main__":
    print(_step(*sys.argv[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
