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
from datetime import date
from pathlib import Path
from typing import Any

from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.learn.interactions import load_interactions
from recsys.models.base import create
from recsys.schemas import night_seed
from recsys.settings import Settings
from recsys.storage.store import Storage

log = logging.getLogger(__name__)

#: Tried unless a run says otherwise.
GRID: dict[str, list[Any]] = {"layers": [[128], [256]], "learning_rate": [2e-3, 4e-3], "dropout": [0.5, 0.7]}
MOST_TRIALS = 200


def configurations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of a grid, in order.

    >>> configurations({"layers": [[8]], "dropout": [0.1, 0.5]})
    [{'layers': [8], 'dropout': 0.1}, {'layers': [8], 'dropout': 0.5}]

    Raises:
        InvalidInputError: a value is not a list with something in it, a name is no hyperparameter, or there are too many.
    """
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InvalidInputError(f"grid value {values!r} of {name} must be a list with at least one value")
    found = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(found) > MOST_TRIALS:
        raise InvalidInputError(f"a grid of {len(found)} trials is more than {MOST_TRIALS}; leave values out")
    for configuration in found:
        create("dae", **configuration)
    return found


def trial(settings: Settings, log_date: date, configuration: dict[str, Any]) -> dict[str, Any]:
    """Train one configuration; gives its configuration, held-out NDCG@100, epochs and seconds.

    Raises:
        MissingDataError: no interactions of the date, or none before it.
    """
    store = Storage(settings.storage_url)
    data = load_interactions(store, log_date, settings.world)
    seed = night_seed(settings.seed, log_date)
    identity = json.dumps({"configuration": configuration, "data": data.checksum, "seed": seed}, sort_keys=True)
    key = hashlib.sha256(identity.encode()).hexdigest()[:12]
    name = f"tuning/date={log_date}/{key}"
    if store.is_complete(name):
        log.info("%s is there already", name)
        return dict(store.read_json(name, "trial.json"))
    before = data.before(log_date)
    if not before.any():
        raise MissingDataError(f"there are no positives before {log_date} to train on; collect traffic for earlier dates")
    work = settings.var / "work" / f"tune-{key}"
    started = time.monotonic()
    figures = create("dae", **configuration).fit(data.matrix(before), seed=seed, work=work)
    result = {"trial": key, "configuration": configuration, **figures, "seconds": round(time.monotonic() - started, 2)}
    with store.stage(name) as staging:
        (staging / "trial.json").write_text(json.dumps(result, indent=1, sort_keys=True))
    shutil.rmtree(work, ignore_errors=True)
    return result


def leaderboard(settings: Settings, log_date: date, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rank trials by held-out NDCG@100, ties by trial; writes JSON, a picture and the best configuration; gives the best trial.

    Raises:
        MissingDataError: there is no trial.
    """
    if not results:
        raise MissingDataError(f"no trial of {log_date} has ended; run tune_dae again")
    ranked = sorted(results, key=lambda result: (-result["ndcg_100"], result["trial"]))
    store = Storage(settings.storage_url)
    name = f"tuning/date={log_date}/leaderboard"
    with store.stage(name, {"trials": len(ranked)}) as staging:
        (staging / "leaderboard.json").write_text(json.dumps(ranked, indent=1, sort_keys=True))
        (staging / "best.json").write_text(json.dumps(ranked[0]["configuration"], indent=1, sort_keys=True))
        _draw(ranked, staging / "leaderboard.png")
    best = f"{store.path(name)}/best.json"
    log.info("best of %d trials: %s; adopt it by RECSYS_DAE=%s", len(ranked), ranked[0]["configuration"], best)
    return {**ranked[0], "best": best}


def adopted(path: Path | None) -> dict[str, Any]:
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


def _draw(ranked: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = ranked[:20][::-1]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.35 * len(shown)))
    names = [", ".join(f"{k} {v}" for k, v in sorted(result["configuration"].items())) or "defaults" for result in shown]
    axes.barh(range(len(shown)), [result["ndcg_100"] for result in shown], color="#4477aa")
    axes.set_yticks(range(len(shown)), names)
    axes.set_xlabel("held-out NDCG@100")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
