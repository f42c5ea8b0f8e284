"""How long a run waits for its log date, with a real Valkey that holds it for another run."""

import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from recsys.settings import load_settings
from recsys.versions import keyspace, lease
from tests.support.components import Valkey

pytestmark = pytest.mark.real

DAY = date(2026, 1, 5)


def look(dag_bag: Any, dag: str, waited: timedelta, state: str = "running", **params: Any) -> Any:
    """What the sensor of a run says that has waited for so long."""
    from airflow.sdk.execution_time.context import set_current_context

    due = datetime(2026, 1, 6, 2, tzinfo=UTC)
    run = SimpleNamespace(dag_id=dag, run_id="second", run_type="manual", data_interval_start=None, run_after=due)
    began = datetime.now(UTC) - waited
    ti = SimpleNamespace(get_first_reschedule_date=lambda _: began, get_dagrun_state=lambda _dag, _run: state)
    context: Any = {"dag_run": run, "params": {"log_date": str(DAY), **params}, "ti": ti}
    sensor = dag_bag.dags[dag].get_task("hold_date")
    with set_current_context(context):
        return sensor.poke(context)


@pytest.mark.parametrize("dag", ["nightly_recommender", "collect_traffic"])
def test_a_run_waits_then_gives_up_and_has_changed_nothing(
    dag_bag: Any, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dag: str
) -> None:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    client = keyspace.connect(load_settings(redis_url=valkey.url))
    connection = {"conn_type": "redis", "host": "127.0.0.1", "port": valkey.port, "extra": {"db": 0}}
    monkeypatch.setenv("AIRFLOW_CONN_REDIS_DEFAULT", json.dumps(connection))
    lease.take(client, DAY, "first")
    # A data set is played over two dates: the one that is free stays free.
    more = {"dataset": True} if dag == "collect_traffic" else {}
    assert not look(dag_bag, dag, timedelta(hours=1.9), **more)
    assert f"log date {DAY} is held by run first" in capsys.readouterr().out
    with pytest.raises(AirflowSkipException, match=f"log date {DAY} is held by run first.* waited for it for 2 hours"):
        look(dag_bag, dag, timedelta(hours=2.1), **more)
    assert lease.holders(client) == {DAY: "first"}
    lease.drop_all(client, "first")
    assert look(dag_bag, dag, timedelta(hours=2.1), **more)
    dates = (DAY - timedelta(days=1), DAY) if more else (DAY,)
    assert lease.holders(client) == dict.fromkeys(dates, f"{dag} second")
    # Its task began just as somebody ended the run, whose dates had been let go by then.
    lease.drop_all(client, f"{dag} second")
    with pytest.raises(AirflowFailException, match=f"run {dag} second has ended"):
        look(dag_bag, dag, timedelta(), state="failed", **more)
    assert lease.holders(client) == {}


def test_a_task_that_ends_after_its_run_leaves_nothing_held(
    dag_bag: Any, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    import run_context
    from airflow.sdk.exceptions import AirflowFailException
    from airflow.sdk.execution_time.context import set_current_context

    client = keyspace.connect(load_settings(redis_url=valkey.url))
    connection = {"conn_type": "redis", "host": "127.0.0.1", "port": valkey.port, "extra": {"db": 0}}
    monkeypatch.setenv("AIRFLOW_CONN_REDIS_DEFAULT", json.dumps(connection))
    dag, due = "nightly_recommender", datetime(2026, 1, 6, 2, tzinfo=UTC)
    run = SimpleNamespace(dag_id=dag, run_id="marked", run_type="manual", data_interval_start=None, run_after=due)
    states = ["running", "failed"]
    ti = SimpleNamespace(get_dagrun_state=lambda _dag, _run: states.pop(0))
    context: Any = {"dag_run": run, "params": {"log_date": str(DAY)}, "ti": ti}
    # Airflow frees the dates of a run that is marked failed, and then commits that: a task that begins in between takes them.
    with set_current_context(context), pytest.raises(AirflowFailException, match="has ended"), run_context.working():
        assert list(lease.holders(client)) == [DAY]
    assert lease.holders(client) == {}
