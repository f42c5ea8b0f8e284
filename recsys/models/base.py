"""The interface of a model that a night can train, and the one place where a model's name becomes an object.

In goes a name (``dae``, ``ease``, ``popularity``, ``response``, or ``package.module:Class``); out comes a :class:`Recommender`.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard, cast

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from recsys.exceptions import InvalidInputError, RecsysError
from recsys.learn.offline_metrics import top_k
from recsys.learn.plays import Plays
from recsys.models.offer import NOTHING, Offer
from recsys.schemas import Figures

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Ids and scores of some best tracks of each row.
Ranked = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]

#: Models that come with Nightshift.
MODELS = {
    "dae": "recsys.models.dae:Dae",
    "ease": "recsys.models.ease:Ease",
    "popularity": "recsys.models.popularity:Popularity",
    "response": "recsys.models.response:Response",
}


class Recommender(Protocol):
    """Learns from a binary users x tracks matrix, and scores tracks for such rows.

    A class that sets ``uses_plays = True`` gets the answered plays too: :meth:`fit` is called with ``plays=``, a
    :class:`recsys.learn.plays.Plays`. A ``config`` attribute, if there is one, is noted in the model's card; it must be
    JSON-ready.
    """

    def fit(self, history: "csr_matrix", *, seed: int, work: Path) -> Figures:
        """Learn.

        Args:
            history: float32 [users, tracks].
            seed: the same seed and history give the same model on the same machine.
            work: directory for checkpoints, kept by the caller until the model has been saved.

        Returns:
            Figures for the model's card.
        """

    def score(self, history: "csr_matrix") -> npt.NDArray[np.float32]:
        """Relevance of every track for each row, float32 [rows, tracks]; higher is better, all finite or -inf."""

    def save(self, directory: Path) -> None:
        """Write everything that :meth:`load` needs."""

    def load(self, directory: Path) -> None:
        """Become the model that was saved."""


class LearnsFromPlays(Protocol):
    """A recommender that learns from the answered plays, too."""

    def fit(self, history: "csr_matrix", *, seed: int, work: Path, plays: Plays) -> Figures:
        """Learn, as :meth:`Recommender.fit`."""


def create(name: str, /, **arguments: JsonValue) -> Recommender:
    """A new model by name.

    Args:
        arguments: given to the class.

    Raises:
        InvalidInputError: no such model, or its class lacks a method; the message names it.
    """
    path, _, attribute = MODELS.get(name, name).partition(":")
    if not attribute:
        raise InvalidInputError(f"model {name!r} is none of {', '.join(MODELS)}, nor of the form package.module:Class")
    try:
        found = getattr(import_module(path), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInputError(f"model {name!r} cannot be imported: {error}; is its package on the path?") from None
    except (Exception, SystemExit) as error:  # whatever its module does
        raise InvalidInputError(f"model {name!r} cannot be imported: {type(error).__name__}: {error}") from None
    missing = [method for method in ("fit", "score", "save", "load") if not callable(getattr(found, method, None))]
    if missing:
        raise InvalidInputError(f"model {name!r} has no method {missing[0]}; it needs fit, score, save and load")
    try:
        return cast(Recommender, found(**arguments))
    except RecsysError:
        raise
    except Exception as error:
        raise InvalidInputError(f"model {name!r} cannot be made: {error}") from None


def best(model: Recommender, history: "csr_matrix", k: int, offer: Offer) -> Ranked:
    """Ids and scores of each row's k best tracks of those on offer, ties by id.

    A model's own ``best(history, k)`` is asked if it has one, for more where some of what it gives is not on offer.

    Args:
        history: float32 [rows, tracks], indices sorted.

    Returns:
        int64 and float32 [rows, k]; :data:`~recsys.models.offer.NOTHING` and -inf at the end of a row with fewer tracks on offer.
    """
    if hasattr(model, "best"):
        if offer.is_everything:
            return cast(Ranked, model.best(history, k))
        ask = partial(cast(Callable[["csr_matrix", int], Ranked], model.best), history)
    else:
        scores = model.score(history)
        if offer.is_everything:
            return _best_of(scores, k)
        ask = partial(_best_of, offer.only(history, scores))
    size, room = history.shape[1], offer.room(history)
    wanted = k + min(k, size - int(room.min(initial=size)))
    while True:
        tracks, found = ask(wanted)
        refused = offer.refuses(history, tracks)
        if wanted >= size or tracks.shape[1] < wanted or ((~refused).sum(axis=1) >= np.minimum(k, room)).all():
            break
        wanted = min(2 * wanted, size)
    order = np.argsort(refused, axis=1, kind="stable")[:, :k]
    tracks = np.where(np.take_along_axis(refused, order, axis=1), NOTHING, np.take_along_axis(tracks, order, axis=1))
    return tracks, np.where(tracks == NOTHING, np.float32(-np.inf), np.take_along_axis(found, order, axis=1))


def _best_of(scores: npt.NDArray[np.float32], k: int) -> Ranked:
    tracks = top_k(scores, k)
    return tracks, np.take_along_axis(scores, tracks, axis=1)


def module_of(name: str) -> str:
    """The module that a model's name names."""
    return MODELS.get(name, name).partition(":")[0]


def label(name: str) -> str:
    """How a model is called in reports: its name, or the name of a class of one's own."""
    return name if name in MODELS else name.rpartition(":")[2]


def uses_plays(model: Recommender) -> TypeGuard[LearnsFromPlays]:
    """Whether the model wants the answered plays."""
    return bool(getattr(model, "uses_plays", False))


def config_of(model: Recommender) -> dict[str, object]:
    """What the model says about itself."""
    return dict(getattr(model, "config", {}))
