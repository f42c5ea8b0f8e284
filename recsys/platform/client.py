"""A thin client of Airflow's REST API: health, triggering, states of runs and tasks, the end of a task's log."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, TypedDict

from pydantic import JsonValue

from recsys.exceptions import UnavailableError

FINISHED = frozenset({"success", "failed"})
#: How often a request is sent that gets no answer, and the seconds between. A machine with much to do keeps Airflow waiting.
TRIES, PAUSE = 3, 2.0


class _NoAnswerError(UnavailableError):
    """Airflow did not answer at all."""


class Run(TypedDict):
    """What a caller may read of a DAG run; its dates are ISO texts, the end is there once it has ended."""

    dag_run_id: str
    state: str
    start_date: str
    end_date: str


class TaskInstance(TypedDict):
    """What a caller may read of a task instance; ``map_index`` is -1 unless it is mapped, ``duration`` is in seconds."""

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int
    rendered_map_index: str | None
    try_number: int
    state: str | None
    duration: float | None


class AirflowClient:
    """Talks to one api-server as one user.

    Args:
        url: address of the api-server, such as ``http://127.0.0.1:8080``.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._login = {"username": user, "password": password}
        self._token = ""

    def is_healthy(self) -> bool:
        """Whether the api-server answers and the scheduler and the dag-processor have reported lately."""
        try:
            health = self._send("GET", "/api/v2/monitor/health")
        except UnavailableError:
            return False
        return all((health.get(part) or {}).get("status") == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def import_errors(self) -> list[str]:
        """Why DAG files cannot be imported, one text a file."""
        answer = self.call("GET", "/importErrors")
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in answer["import_errors"]]

    def has_dag(self, dag: str) -> bool:
        """Whether the DAG has been parsed and stored."""
        try:
            self.call("GET", f"/dags/{dag}/details")
        except UnavailableError:
            return False
        return True

    def set_paused(self, dag: str, paused: bool) -> None:
        """Pause or unpause a DAG; a paused one runs nothing."""
        self.call("PATCH", f"/dags/{dag}?update_mask=is_paused", {"is_paused": paused})

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Create a pool, or leave the one of that name as somebody has set it."""
        if any(pool["name"] == name for pool in self.call("GET", "/pools?limit=1000")["pools"]):
            return
        pool: dict[str, JsonValue] = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        self.call("POST", "/pools", pool)

    def trigger(self, dag: str, run: str, parameters: Mapping[str, JsonValue]) -> None:
        """Start a manual run."""
        self.call("POST", f"/dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None, "conf": dict(parameters)})

    def run(self, dag: str, run: str) -> Run:
        """A run."""
        found: Run = self.call("GET", f"/dags/{dag}/dagRuns/{_quoted(run)}")
        return found

    def unfinished_runs(self, dag: str) -> list[Run]:
        """Runs that are queued or running."""
        found: list[Run] = self.call("GET", f"/dags/{dag}/dagRuns?state=running&state=queued&limit=100")["dag_runs"]
        return found

    def fail_run(self, dag: str, run: str) -> None:
        """Mark a run and its unfinished tasks failed."""
        self.call("PATCH", f"/dags/{dag}/dagRuns/{_quoted(run)}?update_mask=state", {"state": "failed"})

    def tasks(self, dag: str, run: str) -> list[TaskInstance]:
        """Task instances of a run."""
        answer = self.call("GET", f"/dags/{dag}/dagRuns/{_quoted(run)}/taskInstances?limit=300")
        found: list[TaskInstance] = answer["task_instances"]
        return found

    def log_tail(self, task: TaskInstance, lines: int = 12) -> list[str]:
        """The last lines of the log of a task instance's last try."""
        path = (
            f"/dags/{task['dag_id']}/dagRuns/{_quoted(task['dag_run_id'])}/taskInstances/{task['task_id']}"
            f"/logs/{task['try_number']}?map_index={task['map_index']}&full_content=true"
        )
        try:
            content = self.call("GET", path)["content"]
        except UnavailableError as error:
            return [str(error)]
        found = []
        for entry in content:
            text = entry if isinstance(entry, str) else str(entry.get("event", ""))
            details = [] if isinstance(entry, str) else entry.get("error_detail") or []
            found += [text, *(f"{d.get('exc_type')}: {d.get('exc_value')}" for d in details)]
        return [line for line in found if line.strip() and not line.startswith("::")][-lines:]

    def call(self, method: str, path: str, body: Mapping[str, JsonValue] | None = None) -> Any:
        """The answer to a request below ``/api/v2``, a JSON object; without one it is sent again, unless it is a POST.

        Raises:
            UnavailableError: Airflow does not answer, or answers with an error; the message holds it.
        """
        tries = 1
        while True:
            try:
                if not self._token:
                    self._token = self._send("POST", "/auth/token", self._login)["access_token"]
                return self._send(method, f"/api/v2{path}", body)
            except _NoAnswerError:
                if method == "POST" or tries == TRIES:
                    raise
                tries += 1
                time.sleep(PAUSE)

    def _send(self, method: str, path: str, body: Mapping[str, JsonValue] | None = None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 -- http only
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return dict(json.loads(answer.read() or b"{}"))
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")[:500]
            raise UnavailableError(f"Airflow answered {error.code} to {method} {path}: {detail}") from None
        except (OSError, ValueError) as error:
            raise _NoAnswerError(f"Airflow at {self.url} does not answer: {error}") from None


def _quoted(run: str) -> str:
    return urllib.parse.quote(run, safe="")
