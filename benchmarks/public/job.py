"""``python -m benchmarks.public.job LIBRARY MODEL SEED CONFIGS SPLIT ANSWER``: one model in a process of its own.

In go a split and a JSON list of configurations; out comes ANSWER, an npz file: for the n-th configuration ``scores_n``, float32
[rows, tracks], and ``seconds_n`` of its training; and ``mib``, the most memory that the process held. LIBRARY is a module of
this package with a function ``fit``. This module and those of other libraries import nothing of ``recsys``, for they run in an
environment without what it needs.
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

#: What is kept of a binary matrix.
PARTS = ("indices", "indptr", "shape")


def write_split(path: Path, train: csr_matrix, fold_in: csr_matrix) -> None:
    """Both matrices, binary, in one file."""
    parts = {
        f"{name}_{part}": getattr(matrix, part) for name, matrix in (("train", train), ("fold_in", fold_in)) for part in PARTS
    }
    np.savez(path, **parts)


def read_split(path: Path) -> tuple[csr_matrix, csr_matrix]:
    """What :func:`write_split` wrote."""
    with np.load(path, allow_pickle=False) as saved:
        train, fold_in = (_matrix(saved, name) for name in ("train", "fold_in"))
    return train, fold_in


def _matrix(saved: Mapping[str, np.ndarray], name: str) -> csr_matrix:
    indices, indptr, shape = (saved[f"{name}_{part}"] for part in PARTS)
    return csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=tuple(shape))


def most_memory() -> float:
    """MiB that this process has held at the most; what its parent held does not count."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Fit, score, write."""
    library, model, seed, configs, split, answer = sys.argv[1:]
    fit = import_module(f"benchmarks.public.{library}").fit
    train, fold_in = read_split(Path(split))
    found = {}
    for number, config in enumerate(json.loads(configs)):
        with tempfile.TemporaryDirectory(prefix="public-") as work:
            began = time.perf_counter()
            score = fit(model, train, fold_in, seed=int(seed), work=Path(work), **config)
            found[f"seconds_{number}"] = np.float64(time.perf_counter() - began)
            found[f"scores_{number}"] = np.asarray(score(), dtype=np.float32)
    np.savez(answer, mib=np.float64(most_memory()), **found)


if __name__ == "__main__":
    main()
