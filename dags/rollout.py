"""The rollout: how real listeners fare with the candidate, hour by hour. The logic stands in ``recsys``."""

from datetime import UTC, datetime, timedelta

import run_context
from airflow.sdk import CronDataIntervalTimetable, dag, get_current_context, task
from night_notes import leave
from night_notifier import tell
from run_context import MOVE, step

from recsys.night import rollout
from recsys.settings import load_settings
from recsys.versions import keyspace, pointer

DEFAULTS = load_settings()

DOC = """
### What it does
Looks at the requests of real listeners up to the end of the run's interval, and serves the candidate that is being rolled out to
more of them, takes it back, or leaves it where it is. The rule is the file that `RECSYS_ROLLOUT` names; without one this DAG has
no schedule. Nothing happens while no rollout is under way.

A run for an interval that ended before a later look replays: it says what would have followed, and changes nothing. So backfills,
retries and runs that were cleared do no harm. `recsys rollout status` tells how it stands; `recsys rollout advance` and `abort`,
or the page "What is live", are for people.

### Triage
| task | if it fails |
|---|---|
| look | the candidate stays at its share meanwhile; Redis or the storage is away: `recsys doctor`; else see its message |

Owner: recommendations. More: docs/rollout.md.
"""


@task(outlets=[MOVE])
@step
def look() -> str:
    """Look at the interval's end, and do what follows."""
    settings, run = run_context.settings(), get_current_context()["dag_run"]
    client = keyspace.connect(settings)
    before = pointer.read(client)
    at = min(run.data_interval_end or run.run_after, datetime.now(UTC))
    found, said = rollout.look_and_act(settings, client, at, who=run_context.held_by())
    run_context.tell_move(client, before)
    leave(found.action if found else "no rollout")
    if found and found.action != "stay":
        tell(f"rollout: {found.action}", f"{found.reason}. {said}. See docs/runbook.md#a-rollout-is-held-or-taken-back.")
    return said


@dag(
    dag_id="rollout",
    dag_display_name="Rollout",
    description="Look at how listeners fare with a candidate, and serve it to more of them or take it back",
    doc_md=DOC,
    schedule=CronDataIntervalTimetable(DEFAULTS.rollout_cron, timezone="UTC") if DEFAULTS.rollout else None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    is_paused_upon_creation=False,  # without a rule it has no schedule, without a rollout nothing to do
    on_failure_callback=run_context.FAILED,
    default_args=run_context.DEFAULT_ARGS,
    tags=["recommender"],
)
def rollout_dag() -> None:
    """One task."""
    look()


look_at_rollout = rollout_dag()
