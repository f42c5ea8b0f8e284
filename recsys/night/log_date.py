"""The log date of a run: one resolver for every task, whatever started the run.

In go what the scheduler knows about a run; out comes the log date. Nothing here needs Airflow.
"""

from datetime import UTC, date, datetime, timedelta

from recsys.exceptions import InvalidInputError
from recsys.storage.layout import parse_date


def resolve(param: str | None, data_interval_start: datetime | None, run_type: str, run_after: datetime) -> date:
    """The log date that a run is for.

    Args:
        param: the Param ``log_date``, an ISO date, if one was given.
        data_interval_start: begin of the run's data interval, if it has one.
        run_type: ``manual``, ``scheduled``, ``backfill`` or another kind of run.
        run_after: when the run was due or triggered.

    >>> resolve("2026-11-20", None, "manual", datetime(2026, 11, 24, 9, tzinfo=UTC))
    datetime.date(2026, 11, 20)
    >>> resolve(None, datetime(2026, 11, 23, 2, tzinfo=UTC), "scheduled", datetime(2026, 11, 24, 2, tzinfo=UTC))
    datetime.date(2026, 11, 23)
    >>> resolve(None, None, "manual", datetime(2026, 11, 24, 9, tzinfo=UTC))
    datetime.date(2026, 11, 23)

    Raises:
        InvalidInputError: not a date, a date in the future, or a Param given to a run that has a date of its own.
    """
    today = run_after.astimezone(UTC).date()
    if param is not None and run_type in ("scheduled", "backfill"):
        raise InvalidInputError(
            f"a {run_type} run takes its log date from its data interval, but the Param log_date is {param!r}; "
            "trigger a manual run for that date, or leave the Param out"
        )
    if param is not None:
        log_date = parse_date(param, "Param log_date")
    elif data_interval_start is not None:
        log_date = data_interval_start.astimezone(UTC).date()
    elif run_type == "manual":
        log_date = today - timedelta(days=1)
    else:
        raise InvalidInputError(f"a {run_type} run without a data interval has no log date; trigger a manual run with log_date")
    if log_date > today:
        raise InvalidInputError(f"log date {log_date} lies after the run's own day {today}; a log date is over before its night")
    return log_date


def yesterday() -> date:
    """The last log date that is over (UTC)."""
    return datetime.now(UTC).date() - timedelta(days=1)
