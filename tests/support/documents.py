"""Documents of a night as its steps would have written them, and a night's report as the JSON that people read."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from recsys.abtest.schema import Report
from recsys.experiments import Experiment, RunSpec
from recsys.night.night import Night
from recsys.schemas import Card, Gate, Inputs, Verdict
from recsys.settings import load_settings
from recsys.storage.document import Document
from recsys.storage.store import Storage
from tests.support.traffic import write


def night_of(root: Path, day: date, **more: Any) -> Night:
    """A night whose storage stands below a directory."""
    return Night(day, load_settings(var=root / "var", **more))


def publish(store: Storage, day: date, document: Document) -> None:
    """A directory that holds a document alone."""
    with store.stage(document.KIND.on(day)) as staging:
        document.write(staging)


def inputs(day: date, live: str = "", **more: Any) -> Inputs:
    return Inputs(log_date=str(day), live=live, **more)


def gate(passed: bool = True, reason: str = "Better than popularity.") -> Gate:
    return Gate(passed=passed, reasons=[reason], users=100)


def card(day: date) -> Card:
    return Card(
        log_date=str(day),
        fingerprint="f",
        data="d",
        plays="",
        seed=1,
        code="c",
        model="dae",
        configurations={},
        positives=1,
        users=1,
        tracks=1,
        metrics={"trained_epochs": 3},
        models={},
        neighbours={},
        timing={},
    )


def verdict(found: str, version: str, live: str | None = None, reason: str = "Promotion was not asked for.") -> Verdict:
    told = {"verdict": found, "reasons": [reason], "version": version, "live": version if live is None else live}
    return Verdict.model_validate(told)


def experiment(night: Night, design: Experiment, rows: list[dict[str, Any]], catalogue: int = 500) -> None:
    """Everything that a report is made from: the experiment's logs, the gate's decision, the card, what was read."""
    with night.store.stage(night.experiment) as staging:
        write(staging / "0000-a.jsonl", rows)
        RunSpec("night", "", 0.0, 1, design, catalogue).write(staging)
    for document in (gate(), card(night.log_date)):
        publish(night.store, night.log_date, document)


def as_json(report: Report) -> dict[str, Any]:
    """The content of report.json."""
    return dict(json.loads(report.to_json()))
