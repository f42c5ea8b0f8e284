"""Simulated traffic of one log date, the stand-in for real listeners. The logic stands in ``recsys``."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta

import run_context
from airflow.sdk import Param, dag, get_current_context, task
from hold_date import hold_date
from night_notes import leave
from nightly_timetable import Nightly
from pydantic import JsonValue
from run_context import LIVE, LOGS, step
from simulation import Part, Played, planned, results, shard_of, simulate_shards

from recsys.abtest.wording import counted
from recsys.night import dataset, traffic
from recsys.settings import load_settings
from recsys.storage.layout import parse_date

DEFAULTS = load_settings()

DOC = """
### What it does
Plays listeners of `log_date` against what is live and stores their logs as `logs/date=D`, from which nights learn. Before any
version is live every answer is an unplayed track drawn at random; afterwards a tenth of them is, and the propensity is logged.
A date that is there already is left alone: its later tasks are skipped and the run is green. With `rebuild` it is played again,
and its logs are replaced once the new ones are whole; nights that have read the old ones are rebuilt afterwards.

With `RECSYS_TRAFFIC_GROWTH` the world grows before a date is first planned: listeners and tracks arrive, tracks are retired.

With `RECSYS_EXPERIMENT_SOURCE=live` nobody is played: what real listeners asked for on that day is stored instead. With `none`
nothing is stored either: the date must have been imported or uploaded.

The log date is the Param `log_date`, else the begin of the data interval, else yesterday (UTC).

### Triage
| task | if it fails |
|---|---|
| hold_date | up for reschedule: another run works on this date, its log names it. Skipped: it waited in vain; trigger it again |
| plan_traffic | damaged logs: trigger the date with `rebuild`. Redis is away: `recsys doctor`; clear it then. Else see its log |
| simulate | the service is away or answers nonsense: read the service's log, then clear the task |
| upload_logs | counts differ between listeners and logs: clear `simulate` and everything after it |

Owner: recommendations. More: docs/runbook.md.
"""


@task(inlets=[LIVE])
@step
def plan_traffic() -> list[Part]:
    """Register a run served by what is live; no shards if the date is there."""
    night, params = run_context.night(), get_current_context()["params"]
    if params["dataset"]:
        parts = dataset.plan(night, params["sessions"] or dataset.SESSIONS, rebuild=run_context.is_rebuild())
        if not parts:
            leave(counted(dataset.export(night).counts["sessions"], "session"))
        return [asdict(shard) | {"date": str(day)} for day, shard in parts]
    registered = traffic.plan(night, rebuild=run_context.is_rebuild())
    sessions = params["sessions"] or night.settings.traffic_sessions
    if registered["done"]:
        leave("requests of real listeners" if night.settings.experiment_source == "live" else "there already")
        return []
    return planned(registered, night.settings, sessions, traffic.BATCH)


@task(outlets=[LOGS])
@step
def upload_logs(parts: list[Part], found: Iterable[Played]) -> Mapping[str, JsonValue]:
    """Verify the logs and move them into the storage; a data set is exported, too."""
    with run_context.working() as (night, _):
        if get_current_context()["params"]["dataset"]:
            dated = [(parse_date(str(part["date"])), shard_of(part)) for part in parts]
            card = dataset.finish(night, dated, results(found))
            leave(counted(card.counts["sessions"], "session"))
            return card.model_dump(mode="json")
        counts = traffic.upload(night, shard_of(parts[0]).base, results(found))
        leave(counted(counts["episodes"], "session"))
        return counts


@dag(
    dag_id="collect_traffic",
    dag_display_name="Collect traffic",
    description="Simulated traffic of one log date, served by what is live",
    doc_md=DOC,
    schedule=Nightly(f"0 {DEFAULTS.night_hour} * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=3),
    on_failure_callback=run_context.FAILED,
    default_args=run_context.DEFAULT_ARGS,
    tags=["recommender", "traffic"],
    user_defined_macros={"digest": run_context.digest, "try_id": run_context.try_id},
    params={
        "log_date": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Log date",
            description=run_context.log_date_is("The date to collect", DEFAULTS.night_hour),
        ),
        "sessions": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=10_000_000,
            title="Sessions",
            description="Sessions of all shards together; empty: RECSYS_TRAFFIC_SESSIONS, or 1,000,000 for a data set.",
        ),
        "dataset": Param(
            False,
            type="boolean",
            title="Data set",
            description="Play over two log dates, the one before and the log date, and export both to datasets/date=D.",
        ),
        "rebuild": Param(
            False,
            type="boolean",
            title="Rebuild",
            description="Play the date though it is there: its logs are replaced once the new ones are whole.",
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
            description="The date's own seed is a hash of it and the log date.",
        ),
    },
)
def collect_traffic() -> None:
    """Wire the four tasks; their outputs stand for what they will give, which types cannot say."""
    parts = plan_traffic()
    hold_date() >> parts
    upload_logs(parts, simulate_shards(parts, DEFAULTS))  # type: ignore[arg-type]


collect_traffic()
