"""Runs a part of Airflow that has libraries loaded, so that tasks that it forks need not load them: seven seconds of each night.

A script, ``python -P preload.py [MODULE...] -- WORD...``: it loads nothing of ``recsys``, which may be edited while Airflow runs.
"""

import importlib
import runpy
import sys

#: What several tasks load for seconds.
LIBRARIES = (
    "ibis.backends.duckdb", "matplotlib.backends.backend_agg", "matplotlib.figure", "pandas", "pyarrow.dataset",
    "pyarrow.parquet", "pydantic_settings", "scipy.sparse.linalg", "scipy.stats", "tea_tasting",
)  # fmt: skip
#: Takes more memory than all of them together.
TORCH = "torch"


def main() -> None:
    """Load, then be Airflow's command line."""
    split = sys.argv.index("--")
    for name in (*LIBRARIES, *sys.argv[1:split]):
        importlib.import_module(name)
    sys.argv = ["airflow", *sys.argv[split + 1 :]]
    runpy.run_module("airflow", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
