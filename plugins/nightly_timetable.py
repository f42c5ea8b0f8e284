"""When nights and their traffic are due, in words; a backfill takes the whole of the last day that is named.

Airflow's own timetable leaves that day out: its interval begins at the schedule's hour, after the midnight that a date means.
"""

from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable


class Nightly(CronDataIntervalTimetable):
    """A day's data interval, due when it ends."""

    @property
    def summary(self) -> str:
        """As the UI shows it."""
        return f"{self.description.lower().replace('at', 'daily at', 1)} {self._timezone.name}"

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The next run; a bound is a day that counts to its end."""
        if restriction.latest is not None:
            restriction = restriction._replace(latest=restriction.latest.end_of("day"))
        return super().next_dagrun_info(last_automated_data_interval=last_automated_data_interval, restriction=restriction)


class NightlyTimetable(AirflowPlugin):
    """Registers it."""

    name = "nightly_timetable"
    timetables: list[type] = [Nightly]  # noqa: RUF012
