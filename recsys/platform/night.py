"""The work of ``recsys platform run``: traffic for the dates that lack it, then one night, both through Airflow.

In go a running platform and a log date; out come the night's verdict and figures, as ``recsys nights`` tells them.
"""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from recsys.abtest.history import night_row
from recsys.exceptions import MissingDataError, RecsysError
from recsys.platform.client import FINISHED, AirflowClient, Run, TaskInstance
from recsys.platform.console import Console
from recsys.schemas import Verdict
from recsys.settings import Settings
from recsys.storage.layout import Dated
from recsys.storage.store import Storage

TRAFFIC, NIGHT = "collect_traffic", "nightly_recommender"
POLL_SECONDS = 1.0


class RunFailedError(RecsysError):
    """A DAG run ended in failure; its task's log has been shown."""


def forget_interrupted(client: AirflowClient, console: Console) -> None:
    """Fail the runs that an earlier platform left unfinished, which frees their log dates."""
    for dag in (TRAFFIC, NIGHT):
        for run in client.unfinished_runs(dag):
            name = run["dag_run_id"]
            console.say(f"{dag} {name} was interrupted; it is marked failed")
            client.fail_run(dag, name)


def collect_missing_traffic(
    client: AirflowClient, settings: Settings, log_date: date, console: Console, check: Callable[[], None]
) -> None:
    """Bring the log dates up to ``log_date`` to completeness, side by side.

    Raises:
        RunFailedError: a run failed.
    """
    have = set(Storage(settings.storage_url).dates(Dated.LOGS))
    wanted = [log_date - timedelta(days=back) for back in range(settings.traffic_dates - 1, -1, -1)]
    missing = [day for day in wanted if day not in have]
    if not missing:
        console.say(f"Traffic of {wanted[0]} to {log_date} is there")
        return
    console.say(f"Collecting {settings.traffic_sessions} sessions of traffic for each of {', '.join(map(str, missing))}")
    client.set_paused(TRAFFIC, False)
    mark = _mark()
    runs = {f"first__{day}__{mark}": day for day in missing}
    for run, day in runs.items():
        client.trigger(TRAFFIC, run, {"log_date": str(day), "sessions": settings.traffic_sessions})
    waiting = dict(runs)
    while waiting:
        check()
        for run, day in list(waiting.items()):
            state = client.run(TRAFFIC, run)
            if state["state"] in FINISHED:
                del waiting[run]
                console.say(f"{TRAFFIC} {day}: {state['state']} ({_seconds(state):.0f} s)")
                if state["state"] == "failed":
                    raise _failed(client, TRAFFIC, run, console)
        time.sleep(POLL_SECONDS)
    client.set_paused(TRAFFIC, True)


def run_night(client: AirflowClient, log_date: date, console: Console, check: Callable[[], None]) -> float:
    """Run one night and tell every change of its tasks; returns the seconds that the run took.

    Raises:
        RunFailedError: it failed.
    """
    client.set_paused(NIGHT, False)
    run = f"run__{log_date}__{_mark()}"
    client.trigger(NIGHT, run, {"log_date": str(log_date)})
    console.say(f"{NIGHT} {log_date}: started as {run}")
    told: dict[tuple[str, int], str] = {}
    while True:
        check()
        state = client.run(NIGHT, run)
        for task in client.tasks(NIGHT, run):
            _tell(task, told, console)
        if state["state"] in FINISHED:
            break
        time.sleep(POLL_SECONDS)
    client.set_paused(NIGHT, True)
    seconds = _seconds(state)
    console.say(f"{NIGHT} {log_date}: {state['state']} ({seconds:.0f} s)")
    if state["state"] == "failed":
        raise _failed(client, NIGHT, run, console)
    return seconds


def summarize(settings: Settings, log_date: date, console: Console) -> None:
    """Print the verdict, the key figures and the report's path.

    Raises:
        MissingDataError: the run was green, yet the night has left no verdict.
    """
    store = Storage(settings.storage_url)
    verdict, night = Verdict.find(store, log_date), night_row(store, log_date)
    if verdict is None:
        raise MissingDataError(f"the night of {log_date} left no verdict in {settings.storage_url}")
    console.say("")
    console.say(f"Night of {log_date}: {verdict.verdict.upper() if verdict.verdict == 'gate_refused' else verdict.verdict}")
    for reason in verdict.reasons:
        console.say(f"  {reason}")
    if night.effect_percent is not None:
        interval = f"[{night.ci_low_percent:+.1f}, {night.ci_high_percent:+.1f}]"
        console.say(f"  mean session time, T1 against C: {night.effect_percent:+.1f} % {interval}")
    console.say(f"  sessions: {night.sessions or 0}")
    console.say(f"  live version: {night.live or 'none'}")
    console.say(f"  report: {night.report}")


def _tell(task: TaskInstance, told: dict[tuple[str, int], str], console: Console) -> None:
    state = task["state"]
    key = (task["task_id"], task["map_index"])
    if state in (None, "scheduled", "queued", "removed") or told.get(key) == state:
        return
    told[key] = state
    label = f" [{task.get('rendered_map_index') or task['map_index']}]" if task["map_index"] >= 0 else ""
    took = f" ({task['duration']:.1f} s)" if state in ("success", "failed") and task["duration"] is not None else ""
    console.say(f"  {task['task_id']}{label}: {state}{took}")


def _failed(client: AirflowClient, dag: str, run: str, console: Console) -> RunFailedError:
    names = []
    for task in client.tasks(dag, run):
        if task["state"] == "failed":
            names.append(task["task_id"])
            console.say(f"The end of the log of {task['task_id']}:")
            for line in client.log_tail(task):
                console.say(f"    {line}")
    return RunFailedError(f"{dag} {run} failed in {', '.join(names) or 'no task'}")


def _seconds(run: Run) -> float:
    return (datetime.fromisoformat(run["end_date"]) - datetime.fromisoformat(run["start_date"])).total_seconds()


def _mark() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
