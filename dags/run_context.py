"""What a task knows about its run: the log date, the settings, the id of its try. The only place where both worlds meet."""

import functools
import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import urlsplit

import night_failures
import redis
from airflow.sdk import (  # type: ignore[attr-defined] # its stub lacks what deadlines need
    Asset,
    AssetAlias,
    AsyncCallback,
    DeadlineAlert,
    get_current_context,
)
from airflow.sdk.exceptions import AirflowFailException
from night_connections import redis_url, storage_url
from night_deadline import RunCreated
from night_leases import holder
from night_notifier import LateNotifier, NightNotifier
from pydantic import JsonValue

from recsys.exceptions import ConflictError, CorruptDataError, InvalidInputError, MissingDataError, RecsysError
from recsys.night import dataset
from recsys.night import log_date as log_dates
from recsys.night.night import Night
from recsys.settings import Settings, load_settings
from recsys.storage.layout import Dated
from recsys.versions import keyspace, lease, pointer, publish
from recsys.versions.lease import Lease
from recsys.versions.pointer import Pointer

if TYPE_CHECKING:
    from airflow.sdk.types import DagRunProtocol

#: What a task tells Airflow and other tasks: small and JSON-ready.
Told = dict[str, JsonValue]
P = ParamSpec("P")
R = TypeVar("R")

#: What the DAGs hand to each other: the logs of dates, and the version that is live.
LOGS = Asset("recommender_logs")
LIVE = Asset("recommender_live_version")
#: The outlet of what may move the live version: Airflow tells of an asset whenever its task ends well, of an alias on demand.
MOVE = AssetAlias("recommender_live_version_moved")

#: One slot: tasks that hold a model and its matrices in memory. ``recsys platform`` and the stack's init create it.
TRAINING_POOL = "training"
#: A night may take so long; its log date is held as long for its next step, unless the run ends.
RUN_TIMEOUT = timedelta(hours=12)
#: What a wrong program raises, again at every try.
MISTAKES = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, TypeError, ValueError)

#: Every task tries again for some minutes when something was away; what cannot heal fails at once, see :func:`step`.
DEFAULT_ARGS: dict[str, object] = {
    "owner": "recommendations",
    "retries": 4,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(minutes=30),
}


#: What Airflow's own modules say to Airflow's own modules is no news for who reads a task's log.
warnings.filterwarnings("ignore", module=r"airflow\.")

FAILED = NightNotifier("a run failed", "See docs/runbook.md#a-run-failed.")


def deadline(hours: float) -> DeadlineAlert:
    """Tell when a run has not ended so many hours after it was created."""
    text = f"It has not ended within {hours:g} hours. See docs/runbook.md#a-run-is-late."
    return DeadlineAlert(
        reference=RunCreated(),
        interval=timedelta(hours=hours),
        callback=AsyncCallback(LateNotifier, kwargs={"subject": "a run is late", "text": text}),
    )


def step(function: Callable[P, R]) -> Callable[P, R]:
    """Let errors that a retry cannot heal fail the task at once, with their message."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (InvalidInputError, MissingDataError, CorruptDataError, ConflictError, *MISTAKES) as error:
            raise AirflowFailException(night_failures.note(error)) from error
        except RecsysError as error:
            night_failures.note(error)
            raise

    return run


def log_date() -> date:
    """The log date of the current run."""
    context = get_current_context()
    return _log_date_of(context["dag_run"], context["params"])


def dates() -> tuple[date, ...]:
    """The log dates that the current run works on: its own; a data set is played over two."""
    day = log_date()
    return dataset.dates_of(day) if get_current_context()["params"].get("dataset") else (day,)


def success_file(run: "DagRunProtocol", params: Mapping[str, str | None]) -> str:
    """Path in HDFS of the file that says that the run's logs are complete; for templates."""
    root = urlsplit(load_settings().storage).path.rstrip("/")
    return f"{root}/{Dated.LOGS.on(_log_date_of(run, params))}/_SUCCESS"


def _log_date_of(run: "DagRunProtocol", params: Mapping[str, str | None]) -> date:
    run_type = str(getattr(run.run_type, "value", run.run_type))
    return log_dates.resolve(params.get("log_date"), run.data_interval_start, run_type, run.run_after)


def night() -> Night:
    """The night of the current run."""
    return Night(log_date(), settings())


@contextmanager
def working() -> Iterator[tuple[Night, Lease]]:
    """The night of the current run, its log date held while a step works and until the run's next one."""
    current = night()
    client = keyspace.connect(current.settings)
    with lease.held(client, current.log_date, held_by(), linger=RUN_TIMEOUT) as held:
        free_if_ended(client)
        yield current, held
    free_if_ended(client)  # The run's end may not have been to be seen at the beginning.


def free_if_ended(client: redis.Redis) -> None:
    """A task may begin just as its run is ended by hand, and take the dates that were let go a moment before: let go again.

    Raises:
        AirflowFailException: the run has ended.
    """
    context = get_current_context()
    run = context["dag_run"]
    state = context["ti"].get_dagrun_state(run.dag_id, run.run_id)
    if state in ("success", "failed"):
        lease.drop_all(client, held_by())
        raise AirflowFailException(f"run {held_by()} has ended ({state}); clear it to go on")


def settings() -> Settings:
    """Settings of the current run: the environment, connections of Redis and HDFS, and what the trigger form says."""
    params = get_current_context()["params"]
    given = {name: params.get(name) for name in ("episodes", "seed", "shards", "window")}
    return load_settings(redis_url=redis_url(), storage=storage_url(load_settings().storage), **given)


def on_hdfs(given: Settings) -> bool:
    """Whether the storage is HDFS."""
    return urlsplit(given.storage).scheme == "webhdfs"


def held_by() -> str:
    """The name under which the current run holds log dates."""
    run = get_current_context()["dag_run"]
    return holder(run.dag_id, run.run_id)


def promotion() -> bool | None:
    """What the trigger form says about promotion; None leaves it to the report."""
    return {"auto": None, "yes": True, "no": False}[get_current_context()["params"]["promote"]]


def log_date_is(what: str, hour: int) -> str:
    """What the trigger form says of the Param ``log_date``: which date an empty one means."""
    earlier = f", or the one before that until {hour:02d}:00 UTC" if hour else ""
    return f"{what}; empty: the day before the Logical Date{earlier}. A backfill names its dates itself."


def is_rebuild() -> bool:
    """Whether the trigger form asks for everything anew."""
    return bool(get_current_context()["params"]["rebuild"])


def tell_move(client: redis.Redis, before: Pointer) -> None:
    """Tell Airflow that another version is live, unless the pointer stands where it stood before."""
    live = pointer.read(client)
    if live.generation == before.generation:
        return
    extra: Told = {"version": live.version, "log_date": live.log_date, "digest": publish.checksum_of(client, live.version)}
    get_current_context()["outlet_events"][MOVE].add(LIVE, extra=extra)


def is_backfill() -> bool:
    """Whether the current run belongs to a backfill."""
    return _run_type() == "backfill"


def digest(text: str) -> str:
    """Eight hexadecimal digits that stand for a text in a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def try_id(run: str, try_number: int) -> str:
    """Name of one try of a run's shard, different for every run and try."""
    return f"{digest(run)}-{try_number}"


def current_try() -> str:
    """Name of the current task's try."""
    context = get_current_context()
    return try_id(context["dag_run"].run_id, context["ti"].try_number)


def _run_type() -> str:
    run_type = get_current_context()["dag_run"].run_type
    return str(getattr(run_type, "value", run_type))
