"""What a model is worth: fitted as a night fits it, judged by listeners whom it has not seen, and played against the baselines.

In go settings and what is asked; out comes a :class:`~recsys.score.document.Score`.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recsys import __version__
from recsys.exceptions import UnavailableError
from recsys.models.base import config_of, create, module_of
from recsys.score import public_data
from recsys.score.bench import OF_T1, Bench, DataSet
from recsys.score.document import Score, Worlds
from recsys.score.progress import Steps
from recsys.score.results import Results
from recsys.score.sessions import SPLIT, Played, together
from recsys.score.worlds import FULL, SEEDS, Size, prepare
from recsys.settings import Settings

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Models that every other one stands beside.
BASELINES = ("popularity", "ease", OF_T1)
#: Seeds of the splits of public data.
SPLITS = (0, 1, 2)


@dataclass(frozen=True)
class Asked:
    """What is asked.

    Attributes:
        model: a name of :func:`recsys.models.base.create`. size: of the worlds. seeds: of each world.
        public: whether public data count; data: a directory with those of HetRec; fetch: whether ml-100k may be fetched.
        limit: seconds that a model may take with one data set. rebuild: whether nothing that was kept counts.
    """

    model: str
    size: Size = FULL
    seeds: Sequence[int] = SEEDS
    public: bool = True
    data: Path | None = None
    fetch: bool = True
    limit: float = 600
    rebuild: bool = False


def score(settings: Settings, asked: Asked) -> Score:
    """Fit, judge, play.

    Raises:
        InvalidInputError: the model cannot be made, breaks its interface, fails or takes too long; or ``data`` has no such file.
    """
    began = time.monotonic()
    notes: list[str] = []
    public = list(_public(asked, notes))
    models = list(dict.fromkeys([*BASELINES, asked.model]))
    # A world is made, then played by C, the oracle and the lists of T1 and the model.
    steps = Steps(len(asked.seeds) * (3 + len(models) + len({OF_T1, asked.model})) + len(public) * len(models))
    directory = settings.var / "score"
    try:
        bench = Bench(asked.model, asked.limit, Results(directory / "kept", rebuild=asked.rebuild), directory, steps)
        sessions, held_out = [], []
        for seed in asked.seeds:
            steps.begin(f"world {seed}")
            world = prepare(directory, seed, asked.size)
            data = DataSet(world.name, world.digest, [SPLIT], world)
            held_out += bench.judge(data, models)
            sessions.append(Played(bench, data, world, asked.size.played))
        held_out += [row for data in public for row in bench.judge(data, models)]
    finally:
        steps.close()
    size = asked.size
    return Score(
        model=asked.model,
        label=bench.label,
        arm=bench.arm,
        code=bench.code(module_of(asked.model)),
        config=config_of(create(asked.model)),
        worlds=Worlds(worlds=len(asked.seeds), tracks=size.tracks, users=size.users, explored=size.explored, played=size.played),
        sessions=[*(row for played in sessions for row in played.rows), *together(sessions)],
        held_out=held_out,
        notes=notes,
        seconds=round(time.monotonic() - began, 1),
        version=__version__,
    )


def _public(asked: Asked, notes: list[str]) -> Iterator[DataSet]:
    """Public data that are at hand; notes what is not."""
    if not asked.public:
        notes.append("Public data were left out.")
        return
    try:
        yield _of_matrix("ml-100k", public_data.raters_of_films(fetch=asked.fetch))
    except UnavailableError as error:
        notes.append(f"ml-100k is left out: {error}.")
    if asked.data:
        yield _of_matrix("hetrec", public_data.listeners_of_artists(asked.data))
    else:
        notes.append("HetRec Last.fm is left out: no --data names its directory.")


def _of_matrix(name: str, history: "csr_matrix") -> DataSet:
    digest = hashlib.sha256(str(history.shape).encode())
    digest.update(history.indptr.tobytes())
    digest.update(history.indices.tobytes())
    return DataSet(name, digest.hexdigest(), SPLITS, history=history)
