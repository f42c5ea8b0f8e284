"""The A/B report of a night: from its experiment's logs to report.json, report.html and pictures.

In goes ``experiments/date=D`` (or any directory of logs); out comes ``reports/date=D``. The same logs give the same report.json;
what differs between two runs of the same night stands only in entries named mean_request_time or latency_…, or below one of
:data:`CONTEXT`.
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from recsys.abtest.document import SCHEMA, Document, document_of
from recsys.abtest.history import nights
from recsys.abtest.page import write_page
from recsys.abtest.pictures import draw_all
from recsys.abtest.rule import load_rule
from recsys.abtest.sessions import Before, ExperimentLog, read_before, read_log
from recsys.exceptions import InvalidInputError
from recsys.schemas import Experiment
from recsys.settings import Settings
from recsys.storage.store import MANIFEST, SUCCESS, Storage

log = logging.getLogger(__name__)

CONTROL, LIVE = "C", "L"
LABELS = {"contextual": "contextual", "dae": "new version", "top100": "TOP 100", "session": "session-aware"}
#: Keys that depend on more than the night's own data: what happened afterwards, and what else stands in the storage.
CONTEXT = ("outcome", "calibration", "paired", "history", "pictures")


def build_report(
    store: Storage,
    log_date: date,
    settings: Settings,
    experiment: Experiment,
    gate: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    sources: Sequence[str] = (),
) -> Document:
    """Analyse ``experiments/date=D`` and write ``reports/date=D``; returns the content of report.json.

    Args:
        experiment: the design; its arms' repetitions are the weights of the split.
        gate: content of gate.json. model: content of the model's card.
        sources: directories of the storage to read instead, such as those of live requests.

    Raises:
        MissingDataError: the experiment's logs are absent. InvalidInputError: none of their records belongs to the experiment.
    """
    sources = sources or [f"experiments/date={log_date}"]
    manifests = [store.manifest(source) for source in sources]
    directories = [store.local(source) for source in sources]
    catalogue = _catalogue(directories[-1])
    found = read_log(directories, experiment.name, experiment, catalogue=catalogue)
    arms = list(dict.fromkeys(arm.name for arm in experiment.arms))
    control = CONTROL if CONTROL in arms else arms[0]
    live = LIVE if LIVE in arms and control != LIVE else None
    document = document_of(
        found, control, [a for a in arms if a not in (control, live)], live,
        shares=dict(Counter(arm.name for arm in experiment.arms)), rule=load_rule(settings.promotion),
        before=_before(store, log_date),
    )  # fmt: skip
    for arm in experiment.arms:
        entry = document["arms"][arm.name]
        entry |= {"recommender": arm.recommender, "version": arm.version, "label": LABELS[arm.recommender]}
    if live:
        document["arms"][live]["label"] = "live version"
    document |= {
        "log_date": str(log_date), "salt": experiment.salt,
        "version": next((arm.version for arm in experiment.arms if arm.name in document["treatments"]), ""),
        "gate": dict(gate) if gate else None, "model": dict(model) if model else None,
        "provenance": {
            "source": ", ".join(sources), "catalogue": catalogue, "assignment": "recomputed from the hash for every user",
            "timing": {"checksum": ", ".join(m.checksum for m in manifests), "files": sum(len(m.files) for m in manifests)},
        },
    }  # fmt: skip
    document |= _surroundings(store, log_date, settings, document)
    _publish(store, log_date, document, found)
    log.info("report of %s: %s", log_date, document["decision"]["verdict"])
    return document


def build_refused_report(store: Storage, log_date: date, gate: Mapping[str, Any]) -> Document:
    """Write the report of a night whose model the gate refused: no experiment took place."""
    reasons = [str(reason) for reason in gate.get("reasons", [])] or ["The gate refused the model without a reason."]
    document: Document = {
        "schema": SCHEMA, "experiment": None, "control": None, "treatments": [], "candidate": None, "live_arm": None,
        "log_date": str(log_date),
        "version": "", "users": 0, "sessions": 0, "metrics": [], "against_live": None, "arms": {}, "guardrails": [],
        "srm": {"p_value": None, "ok": None, "reason": "no experiment took place"}, "counts": {}, "warnings": [],
        "decision": {"verdict": "gate_refused", "reasons": reasons, "rules": []}, "cumulative": [], "activity": [],
        "gate": dict(gate), "model": None, "provenance": {"source": f"gates/date={log_date}"},
        "adjusted": None, "rule": None, **dict.fromkeys(CONTEXT), "history": [], "pictures": [],
    }  # fmt: skip
    _publish(store, log_date, document, None)
    return document


def analyse(
    logs: Path | Sequence[Path],
    experiment: str,
    control: str,
    treatments: Sequence[str] | None = None,
    *,
    live: str | None = None,
    promotion: Path | None = None,
    before: Path | Sequence[Path] | None = None,
    design: Experiment | None = None,
    out: Path | None = None,
) -> Document:
    """Analyse one experiment of any request logs, Nightshift's or the original's; equal shares are expected without a design.

    Args:
        logs: files or directories. experiment: its name in the records. control: name of the control arm.
        treatments: arms to test; all others by default. live: an arm that is the live version, for the non-inferiority rule.
        promotion: YAML file of the promotion rule. before: logs from before the experiment, which make its noise smaller.
        design: lets assignments and unequal shares be checked. out: if given, the report's files are written there.

    Raises:
        InvalidInputError: no such experiment or arm; the message names those there are.
    """
    found = read_log(logs, experiment, design)
    known = list(dict.fromkeys([*found.arms, *(arm.name for arm in design.arms)])) if design else list(found.arms)
    for arm in (control, *(treatments or ()), *([live] if live else [])):
        if arm not in known:
            raise InvalidInputError(f"arm {arm!r} is not in experiment {experiment!r}; its arms are {', '.join(known) or 'none'}")
    chosen = list(treatments) if treatments is not None else [arm for arm in known if arm not in (control, live)]
    if control in chosen or len(set(chosen)) != len(chosen):
        raise InvalidInputError(f"treatments {chosen} must be distinct and without the control {control!r}")
    shares = Counter(arm.name for arm in design.arms) if design else Counter(known)
    document = document_of(
        found, control, chosen, live, shares=dict(shares), rule=load_rule(promotion),
        before=None if before is None else read_before(before, found.first_ms),
    )  # fmt: skip
    document |= {
        "log_date": None, "version": "", "gate": None, "model": None,
        "provenance": {"source": "given logs", "catalogue": 0,
                       "assignment": "recomputed from the hash" if design else "as logged; the hash was not recomputed"},
        **dict.fromkeys(CONTEXT), "history": [], "pictures": [],
    }  # fmt: skip
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _write(out, document, found)
    return document


def _catalogue(directory: Path) -> int:
    """Number of tracks that the run was served from; 0 if its specification does not say."""
    try:
        return int(json.loads((directory / "run.json").read_bytes()).get("catalogue", 0))
    except FileNotFoundError:
        return 0


def _before(store: Storage, log_date: date) -> Before | None:
    """Users' sessions in the logs that the night learned from; all of them are older than its experiment."""
    name = f"interactions/date={log_date}"
    if not store.is_complete(name) or not (store.local(name) / "sessions.parquet").exists():
        return None
    import pyarrow.parquet as pq

    sessions = pq.read_table(store.local(name) / "sessions.parquet", columns=["user", "time"])
    users, inverse = np.unique(sessions["user"].to_numpy(), return_inverse=True)
    return Before(users, np.bincount(inverse, sessions["time"].to_numpy()) / np.bincount(inverse))


def _surroundings(store: Storage, log_date: date, settings: Settings, document: Document) -> Document:
    """What else is known when the report is written: earlier nights, the last calibration, the paired run, what came of it."""
    earlier = [row for row in nights(settings.model_copy(update={"storage": store.url})) if row["log_date"] < str(log_date)]
    kept = ("log_date", "verdict", "effect_percent", "ci_low_percent", "ci_high_percent", "live")
    outcome = _stored(store, f"promotions/date={log_date}", "promotion.json")
    return {
        "history": [{name: row[name] for name in kept} for row in earlier],
        "calibration": _stored(store, "calibration", "calibration.json"),
        "paired": _stored(store, f"paired/date={log_date}", "paired.json"),
        "outcome": outcome if outcome and outcome["version"] == document["version"] else None,
    }


def _stored(store: Storage, name: str, file: str) -> Document | None:
    return dict(store.read_json(name, file)) if store.is_complete(name) else None


def finish_report(store: Storage, log_date: date, outcome: Mapping[str, Any]) -> None:
    """Write into a night's report what came of it: ``verdict``, ``reasons``, ``version`` and ``live``.

    Raises:
        MissingDataError: the night has no report.
    """
    name = f"reports/date={log_date}"
    directory = store.local(name)
    document = dict(json.loads((directory / "report.json").read_bytes())) | {"outcome": dict(outcome)}
    with store.stage(name, store.manifest(name).counts) as staging:
        for path in directory.iterdir():
            if path.name not in (MANIFEST, SUCCESS):
                shutil.copyfile(path, staging / path.name)
        _write_documents(staging, document)


def _publish(store: Storage, log_date: date, document: Document, found: ExperimentLog | None) -> None:
    with store.stage(f"reports/date={log_date}", {"users": document["users"], "sessions": document["sessions"]}) as staging:
        _write(staging, document, found)


def _write(directory: Path, document: Document, found: ExperimentLog | None) -> None:
    if found is not None:
        document["pictures"] = [asdict(picture) for picture in draw_all(document, found, directory)]
    _write_documents(directory, document)


def _write_documents(directory: Path, document: Document) -> None:
    # allow_nan=False: a number that is not one must never leave this module.
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")
    write_page(directory, document)
