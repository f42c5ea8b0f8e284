"""What a person asks to be imported: which columns mean what, and how rows without a time get a date.

In go the words of the command line; out comes an :class:`Asked`, checked as far as it can be without looking into a file.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from recsys.exceptions import InvalidInputError
from recsys.storage.layout import parse_date

SESSION_GAP = 30
#: Log dates end here: no log is older.
FIRST = date(1970, 1, 1)


@dataclass(frozen=True)
class Asked:
    """An import of tables.

    Attributes:
        files: read in this order.
        user, track, time, played, rating, artist, title: columns, by name or by number from 1; None where there is none.
        liked: the least rating that tells a liked track.
        tracks: a table with the columns id, artist and title, in whose order new tracks are appended first.
        gap: minutes without a play after which a user's next one begins a session.
        dates: the first and the last date over which rows without a time are spread.
    """

    files: tuple[Path, ...]
    user: str
    track: str | None = None
    time: str | None = None
    played: str | None = None
    rating: str | None = None
    liked: float | None = None
    artist: str | None = None
    title: str | None = None
    tracks: Path | None = None
    gap: int = SESSION_GAP
    dates: tuple[date, date] | None = None

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInputError` for what cannot be meant together."""
        if self.track is None and (self.artist is None or self.title is None):
            raise InvalidInputError(
                "no column tells the track; give --track COLUMN, or --artist and --title of tracks without ids"
            )
        if (self.rating is None) != (self.liked is None):
            raise InvalidInputError(
                "--rating COLUMN and --liked VALUE belong together: a rating of VALUE or more counts as liked"
            )
        if self.rating is not None and self.played is not None:
            raise InvalidInputError("--played and --rating both say what was liked; give one of them")
        if self.time is None and self.dates is None:
            raise InvalidInputError("no column tells the time; give --time COLUMN, or --dates FROM..TO to spread the rows over")
        if self.gap < 1:
            raise InvalidInputError(f"--session-gap is {self.gap}, but must be at least one minute")

    @property
    def columns(self) -> dict[str, str]:
        """What a row may tell, and the column that does."""
        named = {
            "user": self.user,
            "track": self.track,
            "time": self.time,
            "played": self.played,
            "rating": self.rating,
            "artist": self.artist,
            "title": self.title,
        }
        return {name: column for name, column in named.items() if column is not None}

    @property
    def days(self) -> list[date]:
        """The dates over which rows without a time are spread."""
        if self.dates is None:
            return []
        first, last = self.dates
        return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def parse_dates(text: str, today: date | None = None) -> tuple[date, date]:
    """Read ``FROM..TO``.

    >>> parse_dates("2026-01-01..2026-01-07", date(2026, 3, 1))
    (datetime.date(2026, 1, 1), datetime.date(2026, 1, 7))

    Args:
        today: log dates end with it; default the present date (UTC).

    Raises:
        InvalidInputError: not two calendar dates from 1970 to today, the earlier one first.
    """
    parts = text.split("..")
    if len(parts) != 2:
        raise InvalidInputError(f"dates {text[:80]!r} must be of the form FROM..TO, such as 2026-01-01..2026-01-07")
    first, last = (parse_date(part, "date") for part in parts)
    if first > last:
        raise InvalidInputError(f"dates {text} run backwards; give the earlier one first")
    if first < FIRST or last > (today or datetime.now(UTC).date()):
        raise InvalidInputError(f"dates {text} must lie between {FIRST} and today; a log date is over before its night")
    return first, last
