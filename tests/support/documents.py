"""Documents of a night as its steps would have written them, and a night's report as the JSON that people read."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from recsys.abtest.schema import Report
from recsys.experiments import Experiment, RunSpec
from recsys.night.night import Night
from recsys.schemas import (
    AgainstLive,
    Card,
    Figures,
    Gate,
    Inputs,
    Judgement,
    OffPolicyFigures,
    PredictedEffect,
    RankingFigures,
    Verdict,
)
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


def full_gate() -> Gate:
    """A gate with all that it measures."""
    models = {
        name: RankingFigures(
            ndcg_100=ndcg,
            ndcg_100_interval=(ndcg - 0.01, ndcg + 0.01),
            ndcg_100_by_activity=[],
            recall_20=ndcg,
            recall_50=ndcg,
            coverage_100=0.3,
            artist_spread_100=0.8,
        )
        for name, ndcg in (("dae", 0.0823), ("ease", 0.0711), ("popularity", 0.0411))
    }
    earned = OffPolicyFigures(time=0.7, low=0.6, high=0.8, plays=12_345, effective=0.3, reliable=True)
    live = AgainstLive(ndcg_50=0.07, live_ndcg_50=0.069, difference=(0.001, 0.002))
    predicted = [
        PredictedEffect(against="control", effect_percent=6.2, ci_low_percent=-1.5, ci_high_percent=14.4, answers=2345),
        PredictedEffect(against="live", effect_percent=1.1, ci_low_percent=-5.0, ci_high_percent=7.6, answers=2345),
    ]
    judged = Judgement(
        candidate="dae",
        models=models,
        finite=True,
        fewest_ranked=50,
        gain=(0.03, 0.05),
        off_policy=earned,
        live=live,
        predicted=predicted,
    )
    return Gate(passed=True, reasons=["Better than popularity."], users=2000, metrics=judged)


def full_card() -> Card:
    """A card with all that training tells."""
    checksum = "0a1b2c3d" * 8
    configurations: dict[str, Figures] = {
        "dae": {"layers": [128], "dropout": 0.5, "learning_rate": 0.002},
        "ease": {"weight": 300.0},
    }
    return card(date(2026, 1, 5)).model_copy(
        update={
            "fingerprint": checksum,
            "data": checksum,
            "plays": checksum,
            "code": checksum,
            "configurations": configurations,
            "positives": 412_345,
            "metrics": {"trained_epochs": 14, "validation_ndcg_100_of_held_out_users": 0.0823},
            "neighbours": {"tracks_with_neighbours": 41_234},
            "timing": {"dae": 12.1, "ease": 3.3, "neighbours": 0.8},
        }
    )
