"""The report of a night: from its experiment's logs, or from those of real listeners, to ``reports/date=D``.

In go the logs, the gate's decision and the model's card; out comes a :class:`~recsys.abtest.schema.Report` with its pages and
pictures, to which the verdict is added once there is one.
"""

import logging
import shutil
from collections import Counter
from dataclasses import asdict
from datetime import date, timedelta

import numpy as np

from recsys.abtest.analysis import SampleRatio
from recsys.abtest.calibration import stored_calibration
from recsys.abtest.document import CONTROL, document_of
from recsys.abtest.headline import NO_EXPERIMENT
from recsys.abtest.history import nights
from recsys.abtest.report import write_report
from recsys.abtest.rule import load_rule
from recsys.abtest.schema import Decision, Paired, PastNight, Provenance, ReadFiles, Report
from recsys.abtest.sessions import Before, ExperimentLog, read_log
from recsys.abtest.watch import Plan
from recsys.exceptions import MissingDataError
from recsys.experiments import Experiment, RunSpec
from recsys.logs import real_listeners
from recsys.night.night import Night
from recsys.schemas import Card, Gate, Inputs, Verdict
from recsys.storage.layout import Dated, parse_date
from recsys.storage.manifest import SUCCESS, Manifest

log = logging.getLogger(__name__)

LIVE = "L"
#: What arms are called, and what one is called that real listeners had: no candidate, but whatever was live on their days.
WAS_LIVE = "what was live"
LABELS = {"contextual": "contextual", "dae": "new version", "top100": "TOP 100", "session": "session-aware"}
#: What a contextual arm is called by what its version's neighbours are made from.
CONTEXTUAL = {"artist": {"contextual": "same artist"}, "sessions": {"contextual": "heard in the same sessions"}}


def build_report(night: Night) -> Report:
    """Analyse the night's experiment and write ``reports/date=D``; without experiments the gate has decided.

    Requests of real listeners may belong to no experiment: nobody takes part in one before a version is live.

    Raises:
        MissingDataError: logs, gate or card are absent, or the logs are of no experiment. InvalidInputError: none of the records
            of a simulated experiment belongs to it.
    """
    store = night.store
    if night.settings.experiment_source == "none":
        report = _of_gate(night, Decision(verdict="promote", reasons=[NO_EXPERIMENT]))
        return _store(night, report.model_copy(update={"model": Card.read(store, night.log_date)}), None)
    course = _course(night)
    sources, design = _sources(night, course)
    directories = [store.local(source) for source in sources]
    catalogue = store.read(RunSpec, sources[-1]).catalogue
    found = read_log(directories, design.name, design, catalogue=catalogue, required=course is None)
    arms = list(dict.fromkeys(arm.name for arm in design.arms))
    control = CONTROL if CONTROL in arms else arms[0]
    # Whatever real listeners have, none of their arms is the live version alone.
    live = LIVE if LIVE in arms and control != LIVE and course is None else None
    treatments = [arm for arm in arms if arm not in (control, live)]
    shares, rule = dict(Counter(arm.name for arm in design.arms)), load_rule(night.settings.promotion)
    plan = Plan(course.began.planned_users, course.dates) if course else None
    before = _before(night, course.began.first - timedelta(days=1) if course else night.log_date)
    card = Card.read(store, night.log_date)
    reference = _reference(night, card) if live else None
    report = document_of(
        found, control, treatments, live, shares=shares, rule=rule, before=before, plan=plan, reference=reference
    )
    figures = dict(report.arms)
    labels = LABELS if course else LABELS | CONTEXTUAL.get(str(card.neighbours.get("from")), {})
    for arm in design.arms:
        label = "live version" if arm.name == live else labels[arm.recommender]
        label = WAS_LIVE if course and arm.recommender == "dae" else label
        told = {"recommender": arm.recommender, "version": arm.version, "label": label}
        figures[arm.name] = figures[arm.name].model_copy(update=told)
    manifests = [store.manifest(source) for source in sources]
    files = ReadFiles(checksum=", ".join(m.checksum for m in manifests), files=sum(len(m.files) for m in manifests))
    version = next((arm.version for arm in design.arms if arm.name in treatments), "")
    verdict = Verdict.find(store, night.log_date)
    report = report.model_copy(
        update={
            "log_date": str(night.log_date),
            "salt": design.salt,
            "version": version,
            "arms": figures,
            "gate": Gate.read(store, night.log_date),
            "model": card,
            "provenance": Provenance(
                source=", ".join(sources),
                catalogue=catalogue,
                assignment="recomputed from the hash for every user",
                timing=files,
            ),
            "history": _history(night),
            "calibration": stored_calibration(store),
            "paired": Paired.find(store, night.log_date),
            "outcome": verdict if verdict and verdict.version == version else None,
        }
    )
    report = _store(night, report, found)
    log.info("report of %s: %s", night.log_date, report.decision.verdict)
    return report


def build_refused_report(night: Night) -> Report:
    """Write the report of a night whose model the gate refused: no experiment took place."""
    reasons = Gate.read(night.store, night.log_date).reasons or ["The gate refused the model without a reason."]
    return _store(night, _of_gate(night, Decision(verdict="gate_refused", reasons=reasons)), None)


def _of_gate(night: Night, decision: Decision) -> Report:
    """The report of a night without an experiment."""
    return Report(
        experiment=None,
        control=None,
        treatments=[],
        candidate=None,
        live_arm=None,
        log_date=str(night.log_date),
        users=0,
        sessions=0,
        metrics=[],
        against_live=None,
        adjusted=None,
        rule=None,
        srm=SampleRatio({}, {}, None, False, "no experiment took place"),
        decision=decision,
        guardrails=[],
        arms={},
        activity=[],
        cumulative=[],
        counts={},
        warnings=[],
        gate=Gate.read(night.store, night.log_date),
        provenance=Provenance(source=Gate.KIND.on(night.log_date)),
    )


def _store(night: Night, report: Report, found: ExperimentLog | None) -> Report:
    """Write ``reports/date=D``; gives the report with its pictures, which need the log."""
    with night.store.stage(night.report, {"users": report.users, "sessions": report.sessions}) as staging:
        return write_report(staging, report, found)


def decision_of(night: Night) -> Decision:
    """What the night's report says for the promotion."""
    return Report.read(night.store, night.log_date).decision


def finish_report(night: Night, verdict: Verdict) -> None:
    """Write into a night's report what came of it.

    Raises:
        MissingDataError: the night has no report.
    """
    store = night.store
    directory = store.local(night.report)
    report = Report.read(store, night.log_date).model_copy(update={"outcome": verdict})
    with store.stage(night.report, store.manifest(night.report).counts) as staging:
        for path in directory.iterdir():
            if path.name not in (Manifest.FILE, SUCCESS):
                shutil.copyfile(path, staging / path.name)
        write_report(staging, report, None)


def _course(night: Night) -> real_listeners.Course | None:
    """The experiment of real listeners, if the night reads one."""
    if night.settings.experiment_source != "live":
        return None
    return real_listeners.course(night.settings, night.store, night.log_date)


def _sources(night: Night, course: real_listeners.Course | None) -> tuple[list[str], Experiment]:
    """The directories of logs that the report reads, and the design of the experiment that they are of."""
    if course:
        return [Dated.LOGS.on(day) for day in course.dates], course.began.experiment
    design = night.store.read(RunSpec, night.experiment).experiment
    if design is None:
        raise MissingDataError(f"{night.experiment} was not an experiment; run the night again")
    return [night.experiment], design


def _reference(night: Night, card: Card) -> Report | None:
    """The report of the last version that was shown better, as it was known when the night began.

    None if its control's neighbours were made in another way: the two effects are of different controls then.
    """
    inputs = Inputs.find(night.store, night.log_date)
    if inputs is None or not inputs.reference:
        return None
    found = Report.find(night.store, parse_date(inputs.reference))
    if found and found.model and _control_of(found.model) != _control_of(card):
        log.warning("the reference of %s had another control; the candidate is not compared with it", inputs.reference)
        return None
    return found


def _control_of(card: Card) -> str:
    """What the neighbours are made from that the control serves."""
    return str(card.neighbours.get("from", "vectors"))


def _before(night: Night, log_date: date) -> Before | None:
    """Users' sessions in the logs that the night of a log date learned from; all of them are older than the experiment."""
    store, name = night.store, Dated.INTERACTIONS.on(log_date)
    if not store.is_complete(name) or not (store.local(name) / "sessions.parquet").exists():
        return None
    import pyarrow.parquet as pq

    sessions = pq.read_table(store.local(name) / "sessions.parquet", columns=["user", "steps", "time"])
    users, inverse = np.unique(sessions["user"].to_numpy(), return_inverse=True)
    counts = np.bincount(inverse)
    steps, time = (np.bincount(inverse, sessions[column].to_numpy()).astype(np.float64) for column in ("steps", "time"))
    return Before(users, counts, steps.astype(np.int64), time)


def _history(night: Night) -> list[PastNight]:
    """Nights of earlier log dates."""
    return [PastNight(**asdict(row)) for row in nights(night.store) if row.log_date < str(night.log_date)]
