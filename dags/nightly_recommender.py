"""The night: one run a log date, from its logs to a verdict. Read it from top to bottom; the logic stands in ``recsys``."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TypedDict

import approval
import run_context
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import (
    BaseOperator,
    Param,
    PokeReturnValue,
    TaskGroup,
    chain,
    dag,
    get_current_context,
    task,
)
from hold_date import hold_date
from night_connections import WEBHDFS
from night_notes import leave
from night_notifier import tell
from nightly_timetable import Nightly
from run_context import LOGS, MOVE, TRAINING_POOL, Told, step
from simulation import Part, Played, planned, results, shard_of, simulate_shards

from recsys.abtest.history import night_row
from recsys.night import steps
from recsys.night.dry_run import dry_run
from recsys.settings import load_settings
from recsys.versions import keyspace, pointer

DEFAULTS = load_settings()
log = logging.getLogger(__name__)

DOC = """
### What it does
Retrains the recommender on the logs of `log_date` and the days before it, publishes its lists as a candidate version, plays
simulated sessions against the running service, and promotes the candidate if the A/B report says that it is better.
A run is for one log date: the Param `log_date`, else the begin of the data interval, else yesterday (UTC).
Running a date again rebuilds exactly that date. A backfill plays C and T1 only, and holds unless the Param `promote` says
otherwise.
Up to three dates run at once; what holds a model in memory takes its turn in the pool `training`.
With `RECSYS_EXPERIMENT_SOURCE=live` nothing is simulated: the report reads the logs of real listeners of the last days. With
`none` there is no experiment, and the gate alone decides.

### Verdicts
The run is green in each case, and its last tasks show which it is: `promoted`; `rolling_out` (some listeners get the candidate
first, the DAG `rollout` decides what follows); `held` (the live version stays, the report says
why); with neither of them the gate refused (`gate_refused`, later steps are skipped, the report says why). `recsys nights` lists
verdicts, `recsys verify --date D` checks a night.

### Triage
| task | if it fails |
|---|---|
| check_run | the trigger asks for something impossible: its message names the Param; trigger again |
| wait_for_logs | the log date has no traffic: run `collect_traffic` for it |
| hold_date | up for reschedule: another run works on this date, its log names it. Skipped: it waited in vain; trigger it again |
| collect | a checksum of `logs/date=D`: run `collect_traffic` for D with `rebuild`; of the night: trigger it with `rebuild` |
| train | too few log dates in the window: collect more traffic, or widen `window` |
| evaluate_gate | not the refusal (that is green): read the error; models and interactions must stand there |
| publish | Redis is away: `recsys doctor`; clear the task afterwards |
| simulate | the service is away or answers nonsense: read the service's log, then clear the task |
| upload_logs | counts differ between listeners and logs: clear `simulate` and everything after it |
| approve | nothing failed: a person is asked; answer at the task, or clear it to ask again |
| abtest_report, promote_or_hold | safe to clear at any time |

Owner: recommendations. More: docs/runbook.md.
"""


@task.short_circuit
@step
def check_run() -> bool:
    """Refuse an impossible trigger, and say what the night will do; a dry run ends here."""
    found = dry_run(run_context.night(), backfill=run_context.is_backfill())
    for name, value in found.items():
        log.info("%s: %s", name, value)
    dry = bool(get_current_context()["params"]["dry_run"])
    if dry:
        leave("dry run")
    return not dry


class Waiting(TypedDict):
    """How a sensor waits: seconds between looks and in all, and how long a look may take."""

    mode: str
    poke_interval: float
    timeout: float
    execution_timeout: timedelta


WAITING: Waiting = {
    "mode": "reschedule",
    "poke_interval": 60,
    "timeout": 6 * 3600,
    "execution_timeout": timedelta(minutes=5),
}


@task.sensor(**WAITING)
@step
def wait_for_logs() -> PokeReturnValue:
    """Wait until the log date's logs are complete."""
    night = run_context.night()
    there = night.store.is_complete(night.logs)
    if not there:
        log.info("Waiting for %s/_SUCCESS; the DAG collect_traffic writes it.", night.logs)
    return PokeReturnValue(is_done=there)


def wait_for_logs_on_hdfs() -> BaseOperator:
    """The same where the storage is HDFS, by the provider's sensor."""
    from airflow.providers.apache.hdfs.sensors.web_hdfs import WebHdfsSensor

    file = "{{ success_file(dag_run, params) }}"
    return WebHdfsSensor(task_id="wait_for_logs", filepath=file, webhdfs_conn_id=WEBHDFS, **WAITING)


@task(inlets=[LOGS])
@step
def collect() -> dict[str, int]:
    """Logs become interactions and sessions."""
    with run_context.working() as (night, _):
        return steps.collect_interactions(night, backfill=run_context.is_backfill(), rebuild=run_context.is_rebuild())


@task(pool=TRAINING_POOL, execution_timeout=timedelta(hours=2))
@step
def train() -> Told:
    """Train the models on interactions up to the day before."""
    with run_context.working() as (night, _):
        return steps.train(night, rebuild=run_context.is_rebuild())


@task.short_circuit(pool=TRAINING_POOL)
@step
def evaluate_gate() -> bool:
    """Compare the candidate on the held-out date; a refusal writes its report and skips the rest."""
    with run_context.working() as (night, held):
        gate = steps.evaluate_gate(night)
        if not gate.passed:
            steps.refuse(night, held)
            leave(night_row(night.store, night.log_date).outcome)
    if not gate.passed:
        reasons = [*gate.reasons, "See docs/runbook.md#the-gate-refused-a-candidate."]
        tell(f"the gate refused the candidate of {night.log_date}", " ".join(reasons))
    return gate.passed


@task(pool=TRAINING_POOL)
@step
def recommend() -> dict[str, int]:
    """Write every user's list."""
    with run_context.working() as (night, _):
        return steps.recommend(night)


@task
@step
def publish() -> list[Part]:
    """Put the lists into Redis as an immutable candidate, and register the run that previews it."""
    with run_context.working() as (night, held):
        return planned(steps.publish_candidate(night, held), night.settings, night.settings.episodes, night.settings.batch)


@task
@step
def upload_logs(parts: list[Part], found: Iterable[Played]) -> dict[str, int]:
    """Verify the simulation's logs and move them into the storage."""
    with run_context.working() as (night, _):
        return steps.upload_logs(night, shard_of(parts[0]).base, results(found))


@task
@step
def abtest_report() -> Told:
    """Analyse the experiment and write the report."""
    with run_context.working() as (night, _):
        report = steps.build_report(night)
    return {"decision": report.decision.model_dump(mode="json"), "sessions": report.sessions}


@task.branch(outlets=[MOVE])
@step
def promote_or_hold(parts: list[Part]) -> str:
    """Move the live pointer, or record why not; gives the task that shows the outcome."""
    backfill, wanted = run_context.is_backfill(), run_context.promotion()
    answer = approval.answer_of(get_current_context()["ti"].xcom_pull(task_ids=approval.TASK))
    with run_context.working() as (night, held):
        client = keyspace.connect(night.settings)
        before = pointer.read(client)
        verdict = steps.promote_or_hold(night, shard_of(parts[0]).version, held, wanted=wanted, backfill=backfill, answer=answer)
        leave(night_row(night.store, night.log_date).outcome)
    if verdict.verdict == "promoted":
        run_context.tell_move(client, before)
    elif verdict.verdict == "held" and not backfill:
        reasons = [*verdict.reasons, "See docs/runbook.md#a-candidate-is-held."]
        tell(f"the candidate of {night.log_date} is held", " ".join(reasons))
    return verdict.verdict


@dag(
    dag_id="nightly_recommender",
    dag_display_name="Nightly recommender",
    description="Retrain, publish, simulate, test and promote for one log date",
    doc_md=DOC,
    schedule=Nightly(f"0 {DEFAULTS.night_hour} * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=3,
    dagrun_timeout=run_context.RUN_TIMEOUT,
    deadline=run_context.deadline(DEFAULTS.deadline_hours),
    on_failure_callback=run_context.FAILED,
    default_args=run_context.DEFAULT_ARGS,
    tags=["recommender", "nightly"],
    user_defined_macros={"digest": run_context.digest, "try_id": run_context.try_id, "success_file": run_context.success_file},
    params={
        "log_date": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Log date",
            description=run_context.log_date_is("The date whose logs are learned from", DEFAULTS.night_hour),
        ),
        "episodes": Param(
            DEFAULTS.episodes,
            type="integer",
            minimum=1,
            maximum=10_000_000,
            title="Sessions",
            description="Simulated sessions of the experiment, all shards together.",
        ),
        "shards": Param(
            DEFAULTS.shards,
            type="integer",
            minimum=1,
            maximum=64,
            title="Shards",
            description="Simulation tasks; the result does not depend on it.",
        ),
        "seed": Param(
            DEFAULTS.seed,
            type="integer",
            minimum=0,
            maximum=2**32 - 1,
            title="Base seed",
            description="The night's own seed is a hash of it and the log date.",
        ),
        "window": Param(
            DEFAULTS.window,
            type="integer",
            minimum=2,
            maximum=365,
            title="Window",
            description="Log dates that are read, ending with the log date.",
        ),
        "promote": Param(
            "auto",
            type="string",
            enum=["auto", "yes", "no"],
            values_display={
                "auto": "As the report decides; a backfill holds",
                "yes": "As the report decides, in a backfill too",
                "no": "Hold",
            },
            title="Promote",
            description="Whether the candidate may become live.",
        ),
        "rebuild": Param(
            False,
            type="boolean",
            title="Rebuild",
            description="Train the models anew, and put aside what is damaged of the night; each part is replaced as a whole.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Only check the trigger and say what the night would do.",
        ),
    },
)
def nightly_recommender() -> None:
    """Wire the tasks; their outputs stand for what they will give, which types cannot say."""
    with TaskGroup("learn", prefix_group_id=False, tooltip="From logs to a candidate version"):
        collected = collect()
        candidate = publish()
        collected >> train() >> evaluate_gate() >> recommend() >> candidate
    with TaskGroup("experiment", prefix_group_id=False, tooltip="Sessions of the experiment and their analysis"):
        report = abtest_report()
        # With real listeners there is nothing to simulate, and without experiments either.
        played = DEFAULTS.experiment_source == "simulate"
        measured = upload_logs(candidate, simulate_shards(candidate, DEFAULTS)) if played else candidate  # type: ignore[arg-type]
        measured >> report
    logs = wait_for_logs_on_hdfs() if run_context.on_hdfs(DEFAULTS) else wait_for_logs()
    check_run() >> logs >> hold_date() >> collected
    outcomes = [EmptyOperator(task_id=name) for name in ("promoted", "rolling_out", "held")]
    decided = promote_or_hold(candidate)  # type: ignore[arg-type]
    asked = [approval.approve(DEFAULTS)] if DEFAULTS.approval else []
    chain(report, *asked, decided, outcomes)


nightly_recommender()
