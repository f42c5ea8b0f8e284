"""``python -m benchmarks.public [--data NAME …] [--seeds N] [--json PATH] [--quick]``: our models beside other libraries'.

In go matrices of :mod:`recsys.score.public_data`; out comes a table. Strong generalisation (Liang et al. 2018, section 4.2): a
tenth of the users is not trained on; of each of them four fifths of the positives are shown, and the rest is to be found among
all tracks that were not shown. Every model gets the same splits, in a process of its own; what it scores is judged here, by one
function. Whether several threads compute is up to ``OMP_NUM_THREADS``, 1 unless told otherwise.

A tuned line tries each configuration of a small grid on a split of the trained users alone, and trains the best one anew; its
seconds hold the search. Figures are means over the seeds with their 95 % intervals (Student's t); ``behind`` is what a model's
NDCG@100 lacks, seed by seed, to that of the line with the best mean.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks import real_data
from benchmarks.histories import figures
from benchmarks.own_data import interval
from benchmarks.processes import ROOT
from benchmarks.public import environment
from benchmarks.public.job import write_split
from recsys.exceptions import InvalidInputError, RecsysError, UnavailableError
from recsys.learn.held_out import Split, split
from recsys.score import public_data

DATA: dict[str, Callable[[], csr_matrix]] = {"ml-100k": public_data.raters_of_films, "hetrec": real_data.listeners_of_artists}

Config = Mapping[str, object]


@dataclass(frozen=True)
class Line:
    """A line of the table: a module of this package, what it calls the model, and the configurations that are tried."""

    name: str
    library: str
    model: str
    grid: Sequence[Config] = ({},)


LINES = (
    Line("popularity", "ours", "popularity"),
    Line("ease", "ours", "ease"),
    Line("ease, tuned", "ours", "ease", [{"ridge": ridge} for ridge in (20, 50, 100, 200, 400, 800)]),
    Line("dae", "ours", "dae"),
    Line("dae, tuned", "ours", "dae", [{"epochs": 300, "patience": 15, "dropout": dropout} for dropout in (0.5, 0.7)]),
    Line("RecBole EASE", "recbole", "EASE"),
    Line("RecBole MultiDAE", "recbole", "MultiDAE"),
    Line("implicit ALS", "implicit", "als"),
    Line(
        "implicit ALS, tuned",
        "implicit",
        "als",
        [{"factors": f, "regularization": r, "alpha": a} for f in (32, 64, 128) for r in (0.1, 10.0) for a in (1.0, 4.0)],
    ),
    Line("implicit BPR", "implicit", "bpr"),
    Line("implicit BPR, tuned", "implicit", "bpr", [{"factors": f, "learning_rate": r} for f in (32, 100) for r in (0.02, 0.05)]),
)

#: What is known of a line on one split: figures, seconds, mib, and the configuration.
Found = dict[str, object]


def judge(line: Line, data: Split, seed: int, scratch: Path) -> Found:
    """Figures of a line on a split, after a search within what is trained on if there is a choice."""
    config, spent = line.grid[0], 0.0
    if len(line.grid) > 1:
        inner = split(data.train, seed)
        tried = run(line, line.grid, inner, seed, scratch)
        quality = [figures(scores, inner)["ndcg_100"] for scores in tried["scores"]]
        config, spent = line.grid[int(np.argmax(quality))], sum(tried["seconds"])
    done = run(line, [config], data, seed, scratch)
    return {**figures(done["scores"][0], data), "seconds": done["seconds"][0] + spent, "mib": done["mib"], "config": dict(config)}


def run(line: Line, grid: Sequence[Config], data: Split, seed: int, scratch: Path) -> dict:
    """Fit each configuration in one process.

    Returns:
        ``scores`` and ``seconds``, a list each; ``mib``.

    Raises:
        UnavailableError: the process failed; what it says stands on standard error.
    """
    python = Path(sys.executable) if line.library == "ours" else environment.interpreter()
    given, answer = scratch / "split.npz", scratch / "answer.npz"
    write_split(given, data.train, data.fold_in)
    words = ["-m", "benchmarks.public.job", line.library, line.model, str(seed), json.dumps(list(grid)), given, answer]
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    # RecBole writes logs into its working directory.
    told = subprocess.run([python, *words], cwd=scratch, env=around, capture_output=True, text=True, check=False)
    if told.returncode:
        raise UnavailableError(f"{line.name} failed with status {told.returncode}: {told.stderr[-2000:]}")
    with np.load(answer, allow_pickle=False) as saved:
        parts = {key: [saved[f"{key}_{number}"] for number in range(len(grid))] for key in ("scores", "seconds")}
        return {"scores": parts["scores"], "seconds": [float(each) for each in parts["seconds"]], "mib": float(saved["mib"])}


def table(name: str, found: Mapping[str, Sequence[Found]]) -> str:
    """Markdown: a row a line of the data set called ``name``."""
    values = {line: np.array([row["ndcg_100"] for row in rows], dtype=float) for line, rows in found.items()}
    best = max(values.values(), key=lambda each: each.mean())
    rows = [f"| {name} | NDCG@100 | behind | Recall@20 | Recall@50 | seconds | MiB |", "|---" * 7 + "|"]
    for line, each in found.items():
        ndcg, behind = interval(values[line]), interval(best - values[line])
        recalls = [interval([row[key] for row in each]) for key in ("recall_20", "recall_50")]  # type: ignore[misc]
        shown = [f"{mean:.3f} ± {half:.3f}" for mean, half in (ndcg, behind, *recalls)]
        seconds, mib = (float(np.mean([row[key] for row in each])) for key in ("seconds", "mib"))  # type: ignore[misc]
        rows.append(f"| {line} | {' | '.join(shown)} | {seconds:.1f} | {mib:.0f} |")
    return "\n".join(rows)


def measure(name: str, seeds: int, lines: Sequence[Line]) -> dict[str, list[Found]]:
    """Every line on every split of a data set; tells how far it is on standard error."""
    history = DATA[name]()
    found: dict[str, list[Found]] = {line.name: [] for line in lines}
    with tempfile.TemporaryDirectory(prefix="public-") as scratch:
        for seed in range(seeds):
            data = split(history, seed)
            for line in lines:
                row = judge(line, data, seed, Path(scratch))
                told = f"{name}, seed {seed}: {line.name} {row['ndcg_100']:.4f}, {row['seconds']:.1f} s"
                print(told, file=sys.stderr, flush=True)
                found[line.name].append(row)
    return found


def there() -> list[str]:
    """The data sets that are at hand; says on standard error which one is not, and why."""
    try:
        real_data.directory()
    except InvalidInputError as error:
        print(f"benchmarks: hetrec is left out: {error}", file=sys.stderr)
        return [name for name in DATA if name != "hetrec"]
    return list(DATA)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser("python -m benchmarks.public", description="Our models beside other libraries'.")
    parser.add_argument("--data", nargs="+", metavar="NAME", choices=DATA, help=f"of {', '.join(DATA)}; all at hand without it")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeded splits of each")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures of every split here")
    parser.add_argument("--quick", action="store_true", help="one split, and no tuned lines")
    arguments = parser.parse_args(argv)
    lines = [line for line in LINES if len(line.grid) == 1 or not arguments.quick]
    result = {}
    try:
        for name in arguments.data or there():
            result[name] = measure(name, 1 if arguments.quick else arguments.seeds, lines)
            print(table(name, result[name]), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    except RecsysError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
