"""``python -m benchmarks.own_data [NAME …] [--splits N] [--json PATH]``: what models are worth on real data.

In go the matrices of :mod:`benchmarks.real_data`; out come NDCG@100 and Recall@50 by strong generalisation (Liang et al. 2018,
section 4.2): a tenth of the rows is not trained on; of each of them four fifths of the positives are shown, and the rest is to be
found. Each figure is a mean over splits with its 95 % interval (Student's t). Of plays with times rows are sessions, and what is
predicted is later than all that was trained on.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.sparse import csr_matrix

from benchmarks import real_data
from benchmarks.histories import figures
from recsys.exceptions import RecsysError
from recsys.learn.held_out import FEWEST, Split, hold_out, split
from recsys.models.base import create
from recsys.score import public_data

MODELS = ("popularity", "ease", "dae")
DATA: dict[str, Callable[[], csr_matrix]] = {
    "hetrec": real_data.listeners_of_artists,
    "plays": real_data.sessions_of_plays,
    "ml-100k": public_data.raters_of_films,
}

#: A model's figures over splits: the mean, and half the width of its interval.
Row = dict[str, tuple[float, float]]


def later(history: csr_matrix, part: int, parts: int) -> Split:
    """The rows of one part of the second half, which are in the order of time, predicted from all those before."""
    rows = history.shape[0]
    bounds = np.linspace(rows // 2, rows, parts + 1).astype(int)
    tested = np.arange(bounds[part], bounds[part + 1])
    chosen = tested[np.diff(history.indptr)[tested] >= FEWEST]
    before = np.arange(rows) < bounds[part]
    data = hold_out(history, chosen, np.random.default_rng(part))
    train = data.train.multiply(before[:, None]).astype(np.float32).tocsr()
    train.eliminate_zeros()
    return replace(data, train=train)


def splits_of(name: str, history: csr_matrix, count: int) -> list[Split]:
    """The splits of a data set, seeded."""
    return [later(history, i, count) if name == "plays" else split(history, i) for i in range(count)]


def judge(name: str, count: int) -> dict[str, Row]:
    """Every model on every split of a data set."""
    found: dict[str, list[dict[str, float]]] = {model: [] for model in MODELS}
    for number, data in enumerate(splits_of(name, DATA[name](), count)):
        for model in MODELS:
            with tempfile.TemporaryDirectory(prefix="own-data-") as work:
                fitted = create(model)
                fitted.fit(data.train, seed=number, work=Path(work))
                found[model].append(figures(fitted.score(data.fold_in), data))
    return {model: {key: interval([row[key] for row in rows]) for key in rows[0]} for model, rows in found.items()}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval; that of one value is not known."""
    n = len(values)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else float("nan")
    return float(np.mean(values)), half


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.own_data", description="What models are worth on real data.")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *DATA], help=f"data; all without one: {', '.join(DATA)}")
    parser.add_argument("--splits", type=int, default=5, metavar="N", help="seeded splits of each")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here")
    arguments = parser.parse_args(argv)
    result = {}
    print(f"{'data':<12}{'model':<12}{'NDCG@100':>18}{'Recall@50':>18}", flush=True)
    try:
        for name in arguments.names or DATA:
            result[name] = judge(name, arguments.splits)
            for model, row in result[name].items():
                shown = "".join(f"{f'{mean:.4f} ± {half:.4f}':>18}" for mean, half in (row["ndcg_100"], row["recall_50"]))
                print(f"{name:<12}{model:<12}{shown}", flush=True)
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
