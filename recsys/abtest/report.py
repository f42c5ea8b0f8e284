"""The A/B report of a night: from its experiment's logs to report.json, report.html and pictures.

In goes ``experiments/date=D`` (or any directory of logs); out comes ``reports/date=D``. The same logs give the same report.json;
what differs between two runs of the same night stands only in entries named mean_request_time or latency_…, or below a key
``timing``.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from recsys.abtest.analysis import CONFIDENCE, POWER, Comparison, against_live, compare_arms, sample_ratio, welch
from recsys.abtest.decision import Decision, decide
from recsys.abtest.metrics import GUARDRAILS, METRICS, PRIMARY
from recsys.abtest.page import write_page
from recsys.abtest.pictures import draw_all
from recsys.abtest.sessions import ExperimentLog, read_log
from recsys.exceptions import InvalidInputError
from recsys.schemas import Experiment
from recsys.settings import Settings
from recsys.storage import Storage

log = logging.getLogger(__name__)

SCHEMA = 1
CONTROL, CANDIDATE, LIVE = "C", "T1", "L"
LABELS = {"contextual": "contextual", "dae": "new version", "top100": "TOP 100"}
#: Bounds of sessions a user between the groups of the effect by activity.
ACTIVITY = ((1, 1), (2, 3), (4, None))
MAX_CUMULATIVE = 12

Document = dict[str, Any]


def build_report(
    store: Storage,
    log_date: date,
    settings: Settings,
    experiment: Experiment,
    gate: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    sources: Sequence[str] = (),
) -> Document:
    """Analyse ``experiments/date=D`` and write ``reports/date=D``; returns the content of report.json.

    Args:
        experiment: the design; its arms' repetitions are the weights of the split.
        gate: content of gate.json. model: content of the model's card. names: labels of arms, for people.
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
    document = _document(
        found, control, [a for a in arms if a not in (control, live)], live,
        shares=dict(Counter(arm.name for arm in experiment.arms)), margin=settings.margin,
    )  # fmt: skip
    for arm in experiment.arms:
        entry = document["arms"][arm.name]
        entry |= {"recommender": arm.recommender, "version": arm.version, "label": LABELS[arm.recommender]}
    if live:
        document["arms"][live]["label"] = "live version"
    for name, label in (names or {}).items():
        if name in document["arms"]:
            document["arms"][name]["label"] = label
    document |= {
        "log_date": str(log_date), "salt": experiment.salt,
        "version": next((arm.version for arm in experiment.arms if arm.name in document["treatments"]), ""),
        "gate": dict(gate) if gate else None, "model": dict(model) if model else None,
        "provenance": {
            "source": ", ".join(sources), "catalogue": catalogue, "assignment": "recomputed from the hash for every user",
            "timing": {"checksum": ", ".join(m.checksum for m in manifests), "files": sum(len(m.files) for m in manifests)},
        },
    }  # fmt: skip
    _publish(store, log_date, document, found)
    log.info("report of %s: %s", log_date, document["decision"]["verdict"])
    return document


def build_refused_report(
    store: Storage, log_date: date, gate: Mapping[str, Any], model: Mapping[str, Any] | None = None
) -> Document:
    """Write the report of a night whose model the gate refused: no experiment took place."""
    reasons = [str(reason) for reason in gate.get("reasons", [])] or ["The gate refused the model without a reason."]
    document: Document = {
        "schema": SCHEMA, "experiment": None, "control": None, "treatments": [], "candidate": None, "live_arm": None,
        "log_date": str(log_date),
        "version": "", "users": 0, "sessions": 0, "metrics": [], "against_live": None, "arms": {}, "guardrails": [],
        "srm": {"p_value": None, "ok": None, "reason": "no experiment took place"}, "counts": {}, "warnings": [],
        "decision": {"verdict": "gate_refused", "reasons": reasons, "rules": []}, "cumulative": [], "activity": [],
        "gate": dict(gate), "model": dict(model) if model else None, "provenance": {"source": f"gates/date={log_date}"},
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
    margin: float = 0.02,
    design: Experiment | None = None,
    catalogue: int = 0,
    out: Path | None = None,
) -> Document:
    """Analyse one experiment of any request logs, Nightshift's or the original's; equal shares are expected without a design.

    Args:
        logs: files or directories. experiment: its name in the records. control: name of the control arm.
        treatments: arms to test; all others by default. live: an arm that is the live version, for the non-inferiority rule.
        design: lets assignments and unequal shares be checked. out: if given, the report's files are written there.

    Raises:
        InvalidInputError: no such experiment or arm; the message names those there are.
    """
    found = read_log(logs, experiment, design, catalogue=catalogue)
    known = list(dict.fromkeys([*found.arms, *(arm.name for arm in design.arms)])) if design else list(found.arms)
    for arm in (control, *(treatments or ()), *([live] if live else [])):
        if arm not in known:
            raise InvalidInputError(f"arm {arm!r} is not in experiment {experiment!r}; its arms are {', '.join(known) or 'none'}")
    chosen = list(treatments) if treatments is not None else [arm for arm in known if arm not in (control, live)]
    if control in chosen or len(set(chosen)) != len(chosen):
        raise InvalidInputError(f"treatments {chosen} must be distinct and without the control {control!r}")
    shares = Counter(arm.name for arm in design.arms) if design else Counter(known)
    document = _document(found, control, chosen, live, shares=dict(shares), margin=margin)
    document |= {
        "log_date": None, "version": "", "gate": None, "model": None,
        "provenance": {"source": "given logs", "catalogue": catalogue,
                       "assignment": "recomputed from the hash" if design else "as logged; the hash was not recomputed"},
    }  # fmt: skip
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _write(out, document, found)
    return document


def _document(
    found: ExperimentLog,
    control: str,
    treatments: list[str],
    live: str | None,
    *,
    shares: Mapping[str, int],
    margin: float,
) -> Document:
    context = [live] if live else []
    users = {arm: found.of_arm(arm) for arm in dict.fromkeys([control, *treatments, *context])}
    compared = compare_arms(users, control, treatments, context=context)
    candidate = CANDIDATE if CANDIDATE in treatments else next(iter(treatments), None)
    primary = next((c for c in compared if c.role == "primary" and c.arm == candidate), None)
    versus = against_live(users[candidate], users[live], candidate, live) if candidate and live else None
    ratio = sample_ratio({arm: len(found.of_arm(arm)["user"]) for arm in shares}, shares)
    decision = decide(
        primary, versus, margin=margin, ratio=ratio, validity=[c for c in compared if c.role == "validity"],
        guardrails=found.guardrails.get(candidate or "", {}), counts=found.counts,
    )  # fmt: skip
    return {
        "schema": SCHEMA, "experiment": found.experiment, "control": control, "treatments": treatments, "candidate": candidate,
        "live_arm": live, "users": found.counts["users"], "sessions": found.counts["sessions"],
        "metrics": [_row(c) for c in compared], "against_live": _row(versus) if versus else None, "margin": margin,
        "confidence": CONFIDENCE, "power": POWER, "srm": asdict(ratio), "decision": _decision(decision),
        "guardrails": _guardrail_rows(found, list(users)),
        "arms": {arm: _arm(arm, columns) for arm, columns in users.items()},
        "activity": _activity(users, control, candidate), "cumulative": _cumulative(found, control, candidate),
        "counts": found.counts, "warnings": list(found.warnings),
    }  # fmt: skip


def _row(result: Comparison) -> Document:
    metric = next(m for m in METRICS if m.name == result.name)
    return asdict(result) | {"label": metric.label, "unit": metric.unit}


def _decision(decision: Decision) -> Document:
    return {"verdict": decision.verdict, "reasons": decision.reasons, "rules": [asdict(line) for line in decision.lines]}


def _arm(arm: str, users: Mapping[str, Any]) -> Document:
    counted = len(users["user"])
    means = {m.name: float(m.values(users).mean()) for m in METRICS if m.kind == "mean" and not m.timing} if counted else {}
    return {
        "label": arm, "recommender": "", "version": "", "users": counted, "sessions": int(users["sessions"].sum()),
        "plays": int(users["steps"].sum()), "means": means,
    }  # fmt: skip


def _guardrail_rows(found: ExperimentLog, arms: Sequence[str]) -> list[Document]:
    """One row a guardrail and arm; value None where the log does not tell."""
    rows = []
    for guardrail in GUARDRAILS:
        for arm in arms:
            value = found.guardrails.get(arm, {}).get(guardrail.name)
            rows.append(
                {
                    "name": guardrail.name, "label": guardrail.label, "unit": guardrail.unit, "arm": arm, "value": value,
                    "at_most": guardrail.at_most, "at_least": guardrail.at_least,
                    "ok": None if value is None else guardrail.holds(value),
                }
            )  # fmt: skip
    return rows


def _activity(users: Mapping[str, Any], control: str, candidate: str | None) -> list[Document]:
    """The primary effect among users with few and with many sessions; exploratory, decides nothing."""
    if candidate is None:
        return []
    rows = []
    for low, high in ACTIVITY:
        groups = []
        for arm in (control, candidate):
            kept = (users[arm]["sessions"] >= low) & (users[arm]["sessions"] <= (high or np.inf))
            groups.append({name: column[kept] for name, column in users[arm].items()})
        label = f"{low}" if high == low else f"{low} to {high}" if high else f"{low} or more"
        rows.append(_brief(welch(PRIMARY, *groups)) | {"sessions_a_user": label})
    return rows


def _cumulative(found: ExperimentLog, control: str, candidate: str | None) -> list[Document]:
    """The primary effect when only each user's first k sessions are counted."""
    if candidate is None or not found.counts["sessions"]:
        return []
    ordinal = found.sessions["ordinal"]
    last = min(MAX_CUMULATIVE, int(np.quantile(ordinal, 0.99)) + 1)
    rows = []
    for k in range(1, last + 1):
        groups = []
        for arm in (control, candidate):
            sessions = found.sessions_of_arm(arm)
            first = sessions["ordinal"] < k
            index, inverse = np.unique(sessions["user"][first], return_inverse=True)
            groups.append(
                {
                    "time": np.bincount(inverse, sessions["time"][first], minlength=len(index)),
                    "sessions": np.bincount(inverse, minlength=len(index)),
                }
            )
        rows.append(_brief(welch(PRIMARY, *groups)) | {"sessions_a_user": k})
    return rows


def _brief(result: Comparison) -> Document:
    kept = (
        "control_users",
        "treatment_users",
        "control_mean",
        "treatment_mean",
        "effect_percent",
        "ci_low_percent",
        "ci_high_percent",
    )
    return {name: getattr(result, name) for name in (*kept, "reason")}


def _catalogue(directory: Path) -> int:
    """Number of tracks that the run was served from; 0 if its specification does not say."""
    try:
        return int(json.loads((directory / "run.json").read_bytes()).get("catalogue", 0))
    except FileNotFoundError:
        return 0


def _publish(store: Storage, log_date: date, document: Document, found: ExperimentLog | None) -> None:
    with store.stage(f"reports/date={log_date}", {"users": document["users"], "sessions": document["sessions"]}) as staging:
        _write(staging, document, found)


def _write(directory: Path, document: Document, found: ExperimentLog | None) -> None:
    # allow_nan=False: a number that is not one must never leave this module.
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")
    pictures = draw_all(document, found, directory) if found is not None else []
    write_page(directory, document, pictures)
