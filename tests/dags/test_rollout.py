"""The task of the DAG ``rollout`` on a real Valkey: it looks at the end of its interval, and tells what follows."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.night.test_rollout import Live, begun, live

pytestmark = [pytest.mark.real, pytest.mark.slow]
__all__ = ["begun", "live"]


def look(dag_bag: Any, end: datetime, pushed: dict[str, str], name: str = "hour") -> str:
    """What a run of an interval that ends at a time says."""
    from airflow.sdk.execution_time.context import set_current_context

    run = SimpleNamespace(dag_id="rollout", run_id=name, run_type="scheduled", data_interval_end=end, run_after=end)
    ti = SimpleNamespace(xcom_push=pushed.__setitem__)
    context: Any = {"dag_run": run, "params": {}, "ti": ti}
    with set_current_context(context):
        return str(dag_bag.dags["rollout"].get_task("look").python_callable())


def test_a_run_looks_at_its_hour_and_tells_what_follows(dag_bag: Any, begun: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    task = dag_bag.dags["rollout"].get_task("look").python_callable.__wrapped__.__globals__
    told: list[str] = []
    monkeypatch.setitem(task, "tell", lambda subject, _: told.append(subject))
    host, port = begun.settings.redis_url.get_secret_value().removeprefix("redis://").removesuffix("/0").split(":")
    connection = {"conn_type": "redis", "host": host, "port": int(port), "extra": {"db": 0}}
    monkeypatch.setenv("AIRFLOW_CONN_REDIS_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("RECSYS_VAR", str(begun.settings.var))
    monkeypatch.setenv("RECSYS_SERVICE_LOGS", str(begun.settings.log_dir))
    monkeypatch.setenv("RECSYS_ROLLOUT", str(begun.settings.rollout))
    # The stage began hours ago.
    since = datetime.now(UTC) - timedelta(hours=5)
    begun.client.hset("recsys:{pointer}:rollout", "since", int(since.timestamp() * 1000))
    begun.requests(0.5, 3)
    pushed: dict[str, str] = {}
    assert "that is after" in look(dag_bag, since - timedelta(hours=1), pushed)
    assert (pushed, told) == ({"outcome": "no rollout"}, [])
    assert "was taken back" in look(dag_bag, since + timedelta(hours=2), pushed)
    assert (pushed, told) == ({"outcome": "abort"}, ["rollout: abort"])
    # A second try, which nobody may have told of the first one, tells it again; the next hour finds it done.
    assert "was taken back" in look(dag_bag, since + timedelta(hours=2), pushed)
    assert (pushed, told) == ({"outcome": "abort"}, ["rollout: abort"] * 2)
    assert "no rollout is under way" in look(dag_bag, since + timedelta(hours=3), pushed, "next hour")
    assert told == ["rollout: abort"] * 2
    assert begun.verdict().verdict == "held"
