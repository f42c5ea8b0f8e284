"""Hyperparameters of the autoencoder: one trial a configuration, and a leaderboard.

In go a log date's interactions (up to the day before) and configurations; out come ``tuning/date=D/<trial>`` with ``trial.json``,
and ``tuning/date=D/leaderboard`` with ``leaderboard.json``, ``leaderboard.png`` and ``best.json``, which the setting ``dae``
(``RECSYS_DAE``) adopts. A trial that is there is not trained again, and one that was killed goes on from its checkpoint.
"""

import hashlib
import itertools
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import JsonValue

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.learn.interactions import load_interactions
from recsys.models.base import create, module_of
from recsys.models.identity import code_of
from recsys.night.catalogue import tracks_of
from recsys.night.night import Night
from recsys.schemas import Figures
from recsys.storage.document import Document
from recsys.storage.layout import Dated

log = logging.getLogger(__name__)

#: Tried unless a run says otherwise.
GRID: dict[str, JsonValue] = {"layers": [[128], [256]], "learning_rate": [2e-3, 4e-3], "dropout": [0.5, 0.7]}
MOST_TRIALS = 200


def configurations(grid: Mapping[str, JsonValue]) -> list[Figures]:
    """Every combination of a grid, in order.

    >>> configurations({"layers": [[8]], "dropout": [0.1, 0.5]})
    [{'layers': [8], 'dropout': 0.1}, {'layers': [8], 'dropout': 0.5}]

    Raises:
        InvalidInputError: a value is not a list with something in it, a name is no hyperparameter, or there are too many.
    """
    lists: list[list[JsonValue]] = []
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InvalidInputError(f"grid value {values!r} of {name} must be a list with at least one value")
        lists.append(values)
    found: list[Figures] = [dict(zip(grid, values, strict=True)) for values in itertools.product(*lists)]
    if len(found) > MOST_TRIALS:
        raise InvalidInputError(f"a grid of {len(found)} trials is more than {MOST_TRIALS}; leave values out")
    for configuration in found:
        create("dae", **configuration)
    return found


class Trial(Document):
    """``trial.json``: a trained configuration, its held-out NDCG@100 and what else its training told, seconds."""

    FILE: ClassVar[str] = "trial.json"

    trial: str
    configuration: Figures
    ndcg_100: float
    figures: Figures
    seconds: float


def trial(night: Night, configuration: Figures) -> Trial:
    """Train one configuration.

    Raises:
        MissingDataError: no interactions of the date, or none before it.
    """
    store = night.store
    data = load_interactions(store, night.log_date, tracks_of(night))
    identity = json.dumps(
        {"configuration": configuration, "data": data.checksum, "seed": night.seed, "code": code_of([module_of("dae")])},
        sort_keys=True,
    )
    key = hashlib.sha256(identity.encode()).hexdigest()[:12]
    name = f"{Dated.TUNING.on(night.log_date)}/{key}"
    if store.is_complete(name):
        log.info("%s is there already", name)
        return store.read(Trial, name)
    before = data.before(night.log_date)
    if not before.any():
        raise MissingDataError(f"there are no positives before {night.log_date} to train on; collect traffic for earlier dates")
    work = night.settings.var / "work" / f"tune-{key}"
    started = time.monotonic()
    figures = create("dae", **configuration).fit(data.matrix(before), seed=night.seed, work=work)
    seconds = round(time.monotonic() - started, 2)
    told = {"trial": key, "configuration": configuration, "ndcg_100": figures["ndcg_100"], "figures": figures, "seconds": seconds}
    result = Trial.model_validate(told)
    with store.stage(name) as staging:
        result.write(staging)
    shutil.rmtree(work, ignore_errors=True)
    return result


def leaderboard(night: Night, results: Sequence[Trial]) -> tuple[Trial, str]:
    """Rank trials by held-out NDCG@100, ties by trial; writes JSON, a picture and the best configuration.

    Returns:
        The best trial, and the path of its configuration.

    Raises:
        MissingDataError: there is no trial.
    """
    if not results:
        raise MissingDataError(f"no trial of {night.log_date} has ended; run tune_dae again")
    ranked = sorted(results, key=lambda result: (-result.ndcg_100, result.trial))
    name = f"{Dated.TUNING.on(night.log_date)}/leaderboard"
    with night.store.stage(name, {"trials": len(ranked)}) as staging:
        rows = [result.model_dump(mode="json") for result in ranked]
        (staging / "leaderboard.json").write_text(json.dumps(rows, indent=1, sort_keys=True))
        (staging / "best.json").write_text(json.dumps(ranked[0].configuration, indent=1, sort_keys=True))
        _draw(ranked, staging / "leaderboard.png")
    best = f"{night.store.path(name)}/best.json"
    log.info("best of %d trials: %s; adopt it by RECSYS_DAE=%s", len(ranked), ranked[0].configuration, best)
    return ranked[0], best


def adopted(path: Path | None) -> Figures:
    """The configuration that the setting ``dae`` names; empty without one.

    Raises:
        InvalidInputError: the file is missing or no JSON object.
    """
    if path is None:
        return {}
    try:
        configuration = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"RECSYS_DAE={path} cannot be read: {error}; name a best.json of tune_dae") from None
    if not isinstance(configuration, dict):
        raise InvalidInputError(f"RECSYS_DAE={path} must hold one JSON object of hyperparameters, not {configuration!r}")
    return configuration


def _draw(ranked: Sequence[Trial], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = ranked[:20][::-1]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.35 * len(shown)))
    names = [", ".join(f"{k} {v}" for k, v in sorted(result.configuration.items())) or "defaults" for result in shown]
    axes.barh(range(len(shown)), [result.ndcg_100 for result in shown], color="#4477aa")
    axes.set_yticks(range(len(shown)), names)
    axes.set_xlabel("held-out NDCG@100")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
