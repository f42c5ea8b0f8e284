"""From when a run's lateness is counted: from its creation.

Airflow's own reference for that, ``DAGRUN_QUEUED_AT``, makes clearing a failed run an error of the server (apache/airflow issue
70368): clearing recalculates the deadlines of that reference, by its name. One of our own is left alone, so a run that is cleared
keeps its deadline. It stands among the plugins because the scheduler and the api-server evaluate it as they create a run.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.definitions.deadline import BaseDeadlineReference

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class RunCreated(BaseDeadlineReference):
    """The time at which a run is created, which is when Airflow evaluates it."""

    def _evaluate_with(self, *, session: "Session") -> datetime:  # noqa: ARG002 -- Airflow's
        return datetime.now(UTC)


class NightDeadline(AirflowPlugin):
    """Registers the reference."""

    name = "night_deadline"
    deadline_references: list[type[BaseDeadlineReference]] = [RunCreated]  # noqa: RUF012
