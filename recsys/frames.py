"""Nights as pandas tables, for notebooks and other people's code: a storage and a log date in, a DataFrame out.

>>> from recsys import frames
>>> frames.sessions("2026-11-23").groupby("log_date").time.mean()  # doctest: +SKIP

Every function reads the storage of the settings (``RECSYS_STORAGE``, else ``<RECSYS_VAR>/storage``), or that of a URL given as
``storage``: ``file://…`` or ``webhdfs://…``. A date is a text such as ``"2026-11-23"``, a date or a timestamp. Rows have a fixed
order and are numbered from 0. A column means the same in every table that has it:

==============  ===================  ========================================================================================
column          dtype                meaning and unit
==============  ===================  ========================================================================================
log_date        datetime64[s]        the date of the logs that a row comes from
timestamp       datetime64[ms, UTC]  when a request was answered
user            int64                id of a listener
run             category             what requests were served from: a run id without shard and try
session         int64                (run, user, session) names a session
step            int32                place of a play in its session, from 0; step 0 is the listener's own choice
steps           int64                plays of a session
track           int32                row of the catalogue; 2147483647: named by a ``track_id`` that the service did not know
first_track     int32                the track of step 0
time            float64              how much was heard, in tracks: 0 to 1 of a play, the sum over the plays of a session
recommendation  Int32                the track that was answered to a play; NA if none was
propensity      float64              probability with which it was chosen, above 0 to 1; NaN if unknown
user_id         str                  what the listener is called, if that is a text; missing if it is the number
track_id        str                  what a track that the service did not know was called; else missing
arm             category             arm of the experiment
==============  ===================  ========================================================================================

Errors of all functions: MissingDataError names what the storage lacks and the command that makes it; CorruptDataError: bytes do
not match their manifest; UnavailableError: HDFS does not answer; InvalidInputError: no date, or no URL of a storage.
"""

import io
import tempfile
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from recsys.abtest import history
from recsys.abtest.schema import Report
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import RunSpec
from recsys.logs.record import log_files
from recsys.schemas import Inputs
from recsys.settings import load_settings
from recsys.storage.layout import Dated, parse_date
from recsys.storage.store import Storage

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Day = str | date
#: Whose requests: those of a log date's listeners, or those of a night's experiment.
Source = Literal["logs", "experiments"]

_COLUMNS = {
    "category": "run message arm",
    "datetime64[s]": "log_date",
    "datetime64[ms, UTC]": "timestamp",
    "float32": "weight",
    "float64": "time propensity control_mean treatment_mean effect ci_low ci_high effect_percent ci_low_percent ci_high_percent"
    " p_value p_adjusted mde_percent live_effect_percent live_ci_low_percent live_ci_high_percent"
    " predicted_percent predicted_low_percent predicted_high_percent",
    "int32": "step track first_track rank",
    "int64": "user session ordinal steps control_users treatment_users",
    "Int32": "recommendation",
    "Int64": "sessions",
    "str": "user_id track_id name label unit role control reason verdict live report version",
}
_METRICS = (
    "name label unit role arm control control_users treatment_users control_mean treatment_mean effect ci_low ci_high"
    " effect_percent ci_low_percent ci_high_percent p_value p_adjusted mde_percent reason"
)
_DTYPES = {column: dtype for dtype, columns in _COLUMNS.items() for column in columns.split()}


def nights(*, storage: str = "") -> "pd.DataFrame":
    """Every night so far, ascending.

    Returns:
        A row a night: log_date; verdict (promoted, rolling_out, held, gate_refused; failed while there is none, damaged if it
        cannot be read); sessions (Int64) of its experiment; effect_percent with ci_low_percent and ci_high_percent, float64:
        session time of T1 against C and its 95 % interval; live, the version that was live afterwards; report, the path of its
        report; version, the candidate; live_effect_percent with its interval, against the version that was live; reason, the
        report's first sentence or what cannot be read; predicted_percent with predicted_low_percent and predicted_high_percent,
        what the gate foretold of effect_percent. Missing where a night has none.
    """
    import pandas as pd

    store = _store(storage)
    rows = history.nights(store)
    if not rows:
        raise MissingDataError(f"{store.url} holds no night; 'recsys nightly --date D' makes one, 'make run' all that it needs")
    return _typed(pd.DataFrame(rows))


def sessions(log_date: Day, since: Day | None = None, *, storage: str = "") -> "pd.DataFrame":
    """Sessions of listeners up to a log date: those that its night read, or all ``since`` an earlier date.

    Nights read overlapping windows; with ``since`` each log date is taken once, from the last night that read it.

    Returns:
        A row a session, by log_date, user, run and session: user, run, session, log_date, steps, time, first_track.
    """
    return _collected("sessions.parquet", log_date, since, storage)


def interactions(log_date: Day, since: Day | None = None, *, storage: str = "") -> "pd.DataFrame":
    """What listeners liked up to a log date: played for more than 0.8 of the track. Dates as in :func:`sessions`.

    Returns:
        A row a distinct (log_date, user, track), in this order: user, track, weight (float32, 1), log_date.
    """
    return _collected("interactions.parquet", log_date, since, storage)


def plays(log_date: Day, since: Day | None = None, *, storage: str = "") -> "pd.DataFrame":
    """Every play up to a log date, with what was answered to it. Dates as in :func:`sessions`.

    Returns:
        A row a play, by log_date, user, run, session and step: user, run, session, step, track, time, recommendation, propensity,
        log_date.
    """
    found = _collected("plays.parquet", log_date, since, storage).rename(columns={"hundredths": "time"})
    found["time"] = found["time"] / 100
    return found


def logs(log_date: Day, source: Source = "logs", *, storage: str = "") -> "pd.DataFrame":
    """Requests as the service logged them: every line that is a whole record, repeated events included.

    Args:
        source: ``logs``, what the listeners of the date asked for; ``experiments``, what its night played.

    Returns:
        A row a line, by timestamp, run, user, session and step: message (category: next or last), timestamp, user, track, time,
        run, session, step, recommendation, propensity, user_id, track_id, log_date.
    """
    import pandas as pd

    day = _day(log_date)
    directory = _requests(_store(storage), source, day)
    found = _records(log_files(directory), day).to_pandas(date_as_object=False)
    found["timestamp"] = pd.to_datetime(found["timestamp"], unit="ms", utc=True)
    return _typed(found)


def experiment(log_date: Day, source: Source = "experiments", *, storage: str = "") -> "pd.DataFrame":
    """The sessions of an experiment as its report counts them: whole ones, of users who were in one arm.

    Args:
        source: ``experiments``, what the date's night played; ``logs``, what its listeners took part in.

    Returns:
        A row a session, by user and ordinal: user, arm, ordinal (int64, 0 for the user's first), steps, time.
    """
    import pandas as pd

    from recsys.abtest.sessions import read_log

    store, day = _store(storage), _day(log_date)
    directory = _requests(store, source, day)
    name = Dated(source).on(day)
    design = store.read(RunSpec, name).experiment
    if design is None:
        raise MissingDataError(f"{name} in {store.url} was served without an experiment; 'recsys nightly --date {day}' plays one")
    found = read_log(directory, design.name, design)
    columns = {
        "user": found.users["user"][found.sessions["user"]],
        "arm": np.array(found.arms, dtype=str)[found.sessions["arm"]],
    }
    return _typed(pd.DataFrame(columns | {name: found.sessions[name] for name in ("ordinal", "steps", "time")}))


def metrics(log_date: Day, *, storage: str = "") -> "pd.DataFrame":
    """What a night's report measured; no rows if the gate refused, for then nobody was served.

    Returns:
        A row a metric and pair of arms, in the report's order: name, label, unit; role (primary, secondary, validity, cost,
        context, non_inferiority or adjusted); arm, control; control_users, treatment_users (int64); control_mean, treatment_mean,
        effect, ci_low, ci_high in the metric's unit; effect_percent, ci_low_percent, ci_high_percent, mde_percent of the
        control's mean; p_value, p_adjusted (all float64); reason, why a number is missing.
    """
    import pandas as pd

    store, day = _store(storage), _day(log_date)
    _directory(store, Dated.REPORTS, day)
    document = Report.read(store, day).model_dump()
    more = [document[name] for name in ("against_live", "adjusted") if document[name]]
    return _typed(pd.DataFrame([*document["metrics"], *more], columns=_METRICS.split()))


def lists(log_date: Day, *, storage: str = "") -> "pd.DataFrame":
    """What a night's model recommends to everybody.

    Returns:
        A row a user and place, by user and rank: user, rank (int32, from 1, the best), track.
    """
    import pandas as pd

    directory = _directory(_store(storage), Dated.RECOMMENDATIONS, _day(log_date))
    found = pd.read_json(directory / "recommendations.json", lines=True).explode("tracks", ignore_index=True)
    found.insert(1, "rank", found.groupby("user").cumcount() + 1)
    return _typed(found.rename(columns={"tracks": "track"}))


def _store(url: str) -> Storage:
    return Storage(load_settings(storage=url or None).storage_url)


def _day(day: Day) -> date:
    if isinstance(day, str):
        return parse_date(day)
    return day.date() if isinstance(day, datetime) else day


def _directory(store: Storage, kind: Dated, day: date) -> Path:
    """The local files of a dated directory."""
    name = kind.on(day)
    if not store.is_complete(name):
        command = "traffic" if kind is Dated.LOGS else "nightly"
        raise MissingDataError(f"{name} is not in {store.url}; 'recsys {command} --date {day}' makes it")
    return store.local(name)


def _requests(store: Storage, source: Source, day: date) -> Path:
    """The local files of logged requests."""
    if source not in get_args(Source):
        raise InvalidInputError(f"source {source!r} is none of {', '.join(get_args(Source))}")
    return _directory(store, Dated(source), day)


def _collected(file: str, log_date: Day, since: Day | None, storage: str) -> "pd.DataFrame":
    """A table of ``interactions/date=D``, or of several nights so that it reaches back to a date."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    store, last = _store(storage), _day(log_date)
    parts = {last: None} if since is None else _parts(store, _day(since), last)
    tables = [
        pq.read_table(_directory(store, Dated.INTERACTIONS, night) / file, filters=[("log_date", "in", days)] if days else None)
        for night, days in parts.items()
    ]
    # Nights of earlier releases kept users in 32 bits.
    return _typed(pa.concat_tables(tables, promote_options="permissive").to_pandas(date_as_object=False))


def _parts(store: Storage, first: date, last: date) -> dict[date, list[date]]:
    """Nights up to ``last``, ascending, each with the log dates from ``first`` on that it read and no later one of them did."""
    if first > last:
        raise InvalidInputError(f"since {first} lies after log date {last}; give the earlier date as since")
    parts: dict[date, list[date]] = {}
    end = last + timedelta(days=1)
    for night in reversed([night for night in store.dates(Dated.INTERACTIONS) if night <= last]):
        days = sorted(parse_date(name.partition("date=")[2]) for name in Inputs.read(store, night).logs)
        if wanted := [day for day in days if first <= day < end]:
            parts[night], end = wanted, wanted[0]
    known = {day for days in parts.values() for day in days}
    unread = [day for day in store.dates(Dated.LOGS) if first <= day <= last and day not in known]
    if unread or not parts:
        name = Dated.LOGS.on((unread or [last])[0])
        raise MissingDataError(f"no night up to {last} in {store.url} has read {name}; run 'recsys nightly' with its date")
    return dict(reversed(parts.items()))


def _records(files: Sequence[Path], day: date) -> "pa.Table":
    """The whole records of log files; the one place that knows by whom they are read."""
    from recsys.logs.engines import engine
    from recsys.logs.reading import Reading
    from recsys.logs.record import COLUMNS

    with tempfile.TemporaryDirectory(prefix="recsys-frames-") as scratch, engine("duckdb", Path(scratch)) as queries:
        valid = Reading(queries, Path(scratch), io.StringIO()).records(files, day)
        return valid.select(*COLUMNS, "log_date").order_by(["timestamp", "run", "user", "session", "step"]).to_pyarrow()


def _typed(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The same with the dtypes that this module promises."""
    return frame.astype({column: _DTYPES[column] for column in frame.columns if column in _DTYPES})
