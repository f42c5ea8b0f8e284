"""What stands in the storage by date, and what each of it is called.

In goes a log date; out comes the name of a directory, such as ``reports/date=2026-11-23``.
"""

import re
from datetime import date
from enum import StrEnum

from recsys.exceptions import InvalidInputError

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


class Dated(StrEnum):
    """A family of directories with one for each log date."""

    LOGS = "logs"
    """Requests of listeners, from which nights learn."""
    CATALOGUES = "catalogue"
    """The tracks that there were, of which everything of the date is."""
    QUARANTINE = "quarantine"
    """Lines of those logs that are no whole record."""
    INTERACTIONS = "interactions"
    """What a night has collected from its window of logs."""
    MODELS = "models"
    """What it has trained."""
    GATES = "gates"
    """Whether the candidate was worth showing to anybody."""
    RECOMMENDATIONS = "recommendations"
    """The candidate's lists."""
    EXPERIMENTS = "experiments"
    """Requests of the night's experiment, which its report alone reads."""
    REPORTS = "reports"
    """The A/B report."""
    PROMOTIONS = "promotions"
    """The verdict."""
    ROLLOUTS = "rollouts"
    """Looks at how real listeners fared with the candidate."""
    PAIRED = "paired"
    """The arms played again with the same random numbers."""
    DATASETS = "datasets"
    """Simulated traffic of two log dates, exported."""
    TUNING = "tuning"
    """Trials of hyperparameters."""

    def on(self, log_date: date) -> str:
        """Name of the directory of a log date.

        >>> Dated.REPORTS.on(date(2026, 11, 23))
        'reports/date=2026-11-23'
        """
        return f"{self.value}/date={log_date}"


def parse_date(text: str, name: str = "log date") -> date:
    """Read an ISO date, without a week or an ordinal.

    >>> parse_date("2026-11-23")
    datetime.date(2026, 11, 23)
    >>> parse_date("2026-11-31", "Param log_date")
    Traceback (most recent call last):
    recsys.exceptions.InvalidInputError: Param log_date '2026-11-31' is not a date of the form YYYY-MM-DD, such as 2026-11-23

    Raises:
        InvalidInputError: not a calendar date written as YYYY-MM-DD.
    """
    try:
        found = date.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.isoformat() != text:
        raise InvalidInputError(f"{name} {text!r} is not a date of the form YYYY-MM-DD, such as 2026-11-23")
    return found


def plain_user(text: str) -> str:
    """The name of a user of HDFS, as it stands in paths and requests.

    Raises:
        InvalidInputError: it holds anything but letters, digits and ``_.-``, such as a ``/``.
    """
    if not _USER.fullmatch(text):
        raise InvalidInputError(f"user name {text[:100]!r} must be a plain name of letters, digits and _.-, without '/'")
    return text
