"""The task ``hold_date`` of both DAGs: a run takes its log dates, and waits while another run has one of them."""

from datetime import UTC, datetime, timedelta

import run_context
from airflow.sdk import PokeReturnValue, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from run_context import step

from recsys.exceptions import ConflictError
from recsys.versions import keyspace, lease


@task.sensor(
    mode="reschedule", poke_interval=15, timeout=run_context.RUN_TIMEOUT.total_seconds(), execution_timeout=timedelta(minutes=5)
)
@step
def hold_date() -> PokeReturnValue:
    """Take the run's log dates, or say who has them; a run that has waited for too long changes nothing and ends skipped."""
    context, settings = get_current_context(), run_context.settings()
    client = keyspace.connect(settings)
    try:
        lease.take_all(client, run_context.dates(), run_context.held_by(), ttl=run_context.RUN_TIMEOUT)
    except ConflictError as error:
        began = context["ti"].get_first_reschedule_date(context) or datetime.now(UTC)
        if datetime.now(UTC) - began > timedelta(hours=settings.wait_hours):
            raise AirflowSkipException(
                f"{error}. This run has waited for it for {settings.wait_hours:g} hours (RECSYS_WAIT_HOURS), and changes nothing."
            ) from None
        print(f"{error}. This run waits for it.")
        return PokeReturnValue(is_done=False)
    run_context.free_if_ended(client)
    return PokeReturnValue(is_done=True)
