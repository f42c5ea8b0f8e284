"""From raw log rows to interactions and sessions (collect), and to a finished A/B analysis (abtest).

Each side works in a fresh process. Its libraries are loaded before the clock starts; the detail also tells what the whole process
took.
"""

import os
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks.content import DAY
from benchmarks.measure import Bench, Result, less_is_better, median
from benchmarks.processes import ROOT
from benchmarks.reference import pipeline
from benchmarks.rows import DESIGN, log_rows
from recsys.abtest.report import analyse, build_report
from recsys.collect import collect_interactions
from recsys.settings import load_settings
from recsys.storage import Storage

ROWS, QUICK_ROWS = 1_000_000, 300_000


def measure_collect(bench: Bench) -> Result:
    """Seconds from raw log rows to interactions and sessions."""
    return _measure(bench, "collect", "logs")


def measure_abtest(bench: Bench) -> Result:
    """Seconds from raw log rows to the finished analysis; the detail also tells ours with report, pictures and page."""
    return _measure(bench, "abtest", "experiments", beyond="abtest_report")


def _measure(bench: Bench, name: str, prefix: str, beyond: str = "") -> Result:
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
        ours.append(_run(name, str(copy)))
    out = bench.scratch / "reference"
    out.mkdir()
    reference = _run(f"reference_{name}", str(files / "original.json"), str(out))
    detail = {
        "rows": rows, "ours_s": [round(step, 3) for step, _ in ours],
        "ours_process_s": round(median([whole for _, whole in ours]), 3), "reference_process_s": round(reference[1], 3),
    }  # fmt: skip
    if beyond:
        detail[f"ours_{beyond}_s"] = round(_run(beyond, str(copy))[0], 3)
    return less_is_better(name, "seconds", median([step for step, _ in ours]), reference[0], detail)


def _run(*words: str) -> tuple[float, float]:
    """Seconds of a step, and of the process in which it ran."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "benchmarks.analysis", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return float(done.stdout.split()[-1]), time.perf_counter() - began


def _step(name: str, *words: str) -> float:
    """Run one side of a measure in this process; its seconds without loading libraries."""
    reference = name.startswith("reference_")
    for library in (
        ("pandas", "scipy.stats")
        if reference
        else ("ibis", "duckdb", "pandas", "pyarrow", "scipy.stats", "matplotlib.pyplot", "tea_tasting", "jinja2")
    ):
        import_module(library)
    if not reference:
        ibis = import_module("ibis")
        ibis.duckdb.connect().disconnect()
    store = None if reference else Storage(f"file://{words[0]}")
    began = time.perf_counter()
    if name == "reference_collect":
        pipeline.collect(Path(words[0]), Path(words[1]))
    elif name == "reference_abtest":
        pipeline.analyse(Path(words[0]), DESIGN.name, "C", Path(words[1]))
    elif name == "collect":
        collect_interactions(store, DAY, load_settings(storage=store.url, window=2))
    elif name == "abtest":
        analyse(Path(words[0]) / "experiments" / f"date={DAY}", DESIGN.name, "C", design=DESIGN)
    else:
        build_report(store, DAY, load_settings(storage=store.url), DESIGN)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(_step(*sys.argv[1:]))
