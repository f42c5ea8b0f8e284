"""``python -m recsys.score.fit DIR``: one model fitted to one data set, in a process whose memory and time are its own.

In goes ``DIR/job.json``, a :class:`Job`; out comes ``DIR/fitted.npz``, or ``DIR/error.txt`` with the line that says why not:

* ``ndcg_100``, ``recall_20``, ``recall_50``: float64, a figure a held-out user, of one split after the other.
* ``users``: int64 [n], and ``lists``: int32 [n, 50], everybody's list as a night would make it, artists spread; of worlds alone.
* ``seconds`` of fitting and ``listing`` of ranking, means over splits; ``mib``, the most memory that the process has held.
"""

import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from recsys.exceptions import InvalidInputError, RecsysError
from recsys.learn.held_out import Split, split
from recsys.models.base import Recommender, create, uses_plays
from recsys.models.identity import INSTALLED
from recsys.models.offer import NOTHING, Offer
from recsys.night.catalogue import tracks_of
from recsys.night.recommend import artist_discount, ranked
from recsys.schemas import LIST_LENGTH
from recsys.score.given import LEARNED, SEED, Given, OfWorld, night_of, of_file, of_logs
from recsys.storage.document import Document

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

HISTORY, FITTED, ERROR = "history.npz", "fitted.npz", "error.txt"
#: Users that are scored at a time, and those whose scores must be the same after save and load.
ROWS, COMPARED = 256, 32

Arrays = dict[str, npt.NDArray[Any]]


class Job(Document):
    """``job.json``: a model's name, what the data set is called, the seeds of its splits, and where it stands.

    Attributes:
        storage, world: of a world's logs; without them ``history.npz`` stands beside the job.
    """

    FILE: ClassVar[str] = "job.json"

    model: str
    data: str
    splits: list[int]
    storage: str = ""
    world: str = ""


def fit(job: Job, directory: Path) -> Arrays:
    """Fit, save, load, rank.

    Raises:
        InvalidInputError: the model breaks its interface.
    """
    given = of_logs(night_of(job.storage, Path(job.world))) if job.storage else of_file(directory / HISTORY)
    parts: list[Arrays] = []
    lists: Arrays = {}
    for seed in job.splits:
        data = split(given.history, seed)
        work = directory / f"split-{seed}"
        began = time.perf_counter()
        model = _fitted(job.model, data, given, work)
        fitted = time.perf_counter()
        model = _loaded(job.model, model, data.fold_in[:COMPARED], work)
        scored = time.perf_counter()
        tracks = [_rank(job.model, model, data, start) for start in range(0, len(data.rows), ROWS)]
        if given.world:
            lists = _lists(job.model, model, given.history, given.world)
        seconds = {"seconds": np.array([fitted - began]), "listing": np.array([time.perf_counter() - scored])}
        parts.append({**data.figures(np.concatenate(tracks)), **seconds})
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    means = {key: np.array(found[key].mean()) for key in ("seconds", "listing")}
    return {**found, **means, **lists, "mib": np.array(_most_memory())}


def _fitted(name: str, data: Split, given: Given, work: Path) -> Recommender:
    work.mkdir()
    model = create(name)
    if uses_plays(model):
        assert given.world is not None  # noqa: S101 -- public data have no plays, and no such model is fitted to them
        plays = given.world.plays
        shown = plays.chosen(~np.isin(plays.row, data.rows))
        figures: object = model.fit(data.train, seed=SEED, work=work / "work", plays=shown)
    else:
        figures = model.fit(data.train, seed=SEED, work=work / "work")
    if not isinstance(figures, Mapping):
        raise InvalidInputError(
            f"fit of model {name!r} returns {figures!r:.50}; it must return a dictionary of figures, {{}} say"
        )
    return model


def _loaded(name: str, model: Recommender, rows: "csr_matrix", work: Path) -> Recommender:
    """The model as a night would have it: saved by one process and loaded by another."""
    saved = work / "saved"
    saved.mkdir()
    model.save(saved)
    again = create(name)
    again.load(saved)
    if not np.allclose(_scores(name, model, rows), _scores(name, again, rows), rtol=1e-3, atol=1e-4):
        raise InvalidInputError(f"model {name!r} scores otherwise once it has been saved and loaded; see to its save and load")
    return again


def _scores(name: str, model: Recommender, rows: "csr_matrix") -> npt.NDArray[np.float32]:
    """Scores as the interface has them.

    Raises:
        InvalidInputError: these are others.
    """
    scores = model.score(rows)
    wanted = f"a float32 array [{rows.shape[0]}, {rows.shape[1]}]: a row for each row of the history, a column for each track"
    if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or scores.shape != rows.shape:
        what = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, np.ndarray) else f"a {type(scores).__name__}"
        raise InvalidInputError(f"score of model {name!r} gives {what}; it must give {wanted}")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise InvalidInputError(
            f"score of model {name!r} gives NaN or infinity; it must give numbers, or -inf to leave a track out"
        )
    if not np.isfinite(scores).any(axis=1).all():
        raise InvalidInputError(f"score of model {name!r} leaves every track out for some row; it must rank at least one")
    return np.array(scores, np.float32)


def _rank(name: str, model: Recommender, data: Split, start: int) -> npt.NDArray[np.int64]:
    some = data.some(start, start + ROWS)
    return some.rank(_scores(name, model, some.fold_in))


def _lists(name: str, model: Recommender, history: "csr_matrix", world: OfWorld) -> Arrays:
    """Everybody's list, those of held-out users too: the model sees what they liked."""
    discount = artist_discount(world.night, world.data, tracks_of(world.night), model, of=LEARNED[-1])
    everything = Offer(np.ones(history.shape[1], bool))
    lists = np.full((history.shape[0], LIST_LENGTH), NOTHING, np.int32)
    for start, part in ranked(model, history, discount, None, world.data.artist_of, everything):
        lists[start : start + len(part), : part.shape[1]] = part
    place = np.arange(LIST_LENGTH)
    strange = (lists >= history.shape[1]).any() or (lists < NOTHING).any()
    if strange or (np.diff(np.sort(np.where(lists == NOTHING, -2 - place, lists), axis=1), axis=1) == 0).any():
        raise InvalidInputError(f"best of model {name!r} gives a track twice, or one that is not in the catalogue")
    return {"users": world.data.users, "lists": lists}


def _most_memory() -> float:
    """MiB; what the parent held before this process began does not count, as it would in getrusage."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _told(name: str, error: Exception) -> RecsysError:
    """An error of ours; of a model's own error where it came from."""
    if isinstance(error, RecsysError):
        return error
    package = Path(__file__).parents[1]
    own = [
        f"{Path(frame.filename).name} line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not INSTALLED & set(Path(frame.filename).parts) and not Path(frame.filename).is_relative_to(package)
    ]
    place = f" ({own[-1]})" if own else ""
    said = " ".join(str(error).split())[:300]
    return InvalidInputError(f"model {name!r} fails: {type(error).__name__}: {said}{place}")


def main() -> int:
    """Do the job of a directory; returns the exit status."""
    directory = Path(sys.argv[1])
    job = Job.parse((directory / Job.FILE).read_text(), Job.FILE)
    try:
        found = fit(job, directory)
    except Exception as error:
        traceback.print_exc()
        told = _told(job.model, error)
        (directory / ERROR).write_text(str(told))
        return told.exit_code
    np.savez(directory / FITTED, allow_pickle=False, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
