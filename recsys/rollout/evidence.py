"""What request logs say of a stage: files and a time in, an :class:`~recsys.rollout.look.Evidence` out.

A stage is an experiment of its own in the log. What came later than the time is left out, so that the same logs, or more of them,
give the same evidence again. Sessions that span a change of the stage belong to no experiment as a whole, and are left out.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from recsys.abtest.metrics import PRIMARY, Columns, Floats
from recsys.abtest.sessions import read_log
from recsys.exceptions import MissingDataError
from recsys.experiments import Split
from recsys.logs.real_listeners import BASE
from recsys.rollout.look import Evidence, Moments
from recsys.rollout.rule import TROUBLES
from recsys.settings import Settings
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

log = logging.getLogger(__name__)

ARMS = (Split.LIVE.name, Split.CANDIDATE.name)


def evidence(settings: Settings, store: Storage, experiment: str, since: datetime, until: datetime) -> Evidence:
    """The evidence of a stage's experiment from when it began until a time, UTC; none if nobody asked for anything."""
    while True:
        files = sources(settings, store, since, until)
        try:
            return evidence_of(files, experiment, until) if files else Evidence()
        except MissingDataError:
            if all(path.exists() for path in files):
                raise
            log.info("logs were moved into the storage meanwhile; they are looked up again")


def sources(settings: Settings, store: Storage, since: datetime, until: datetime) -> list[Path]:
    """Log files and directories of the days that a stage touches: the service's own files, and what the storage has by now."""
    days = [since.date() + timedelta(days=day) for day in range((until.date() - since.date()).days + 1)]
    own = [path for day in days for path in sorted((settings.log_dir / BASE).glob(f"{day}-*.jsonl"))]
    # In this order: a file that is moved meanwhile is seen twice rather than not at all.
    stored = [store.local(Dated.LOGS.on(day)) for day in days if store.is_complete(Dated.LOGS.on(day))]
    return own + stored


def evidence_of(files: Sequence[Path], experiment: str, until: datetime) -> Evidence:
    """The evidence in these files.

    Raises:
        MissingDataError: a file is not there.
    """
    found = read_log(files, experiment, required=False, until=int(until.astimezone(UTC).timestamp() * 1000))
    live, candidate = (_moments(PRIMARY.values(found.of_arm(arm))) for arm in ARMS)
    troubles = [_of_arm(found.troubles, found.arms, arm) for arm in ARMS]
    shares = {name: (_moments(_shares(troubles[0], name)), _moments(_shares(troubles[1], name))) for name in TROUBLES}
    return Evidence(live=live, candidate=candidate, troubles=shares, dealt=(len(troubles[0]["user"]), len(troubles[1]["user"])))


def _of_arm(columns: Columns, arms: Sequence[str], arm: str) -> Columns:
    place = arms.index(arm) if arm in arms else -1
    return {name: column[columns["arm"] == place] for name, column in columns.items()}


def _shares(users: Columns, name: str) -> Floats:
    """A share of each user's answers, [users]; users without any are left out."""
    part, whole = users[name.removesuffix("_share")], users["answers"] + users["unanswered"] + users["degraded"]
    return np.asarray(part[whole > 0] / whole[whole > 0], dtype=np.float64)


def _moments(values: Floats) -> Moments:
    if not len(values):
        return Moments(users=0)
    variance = float(values.var(ddof=1)) if len(values) > 1 else None
    return Moments(users=len(values), mean=float(values.mean()), variance=variance)
