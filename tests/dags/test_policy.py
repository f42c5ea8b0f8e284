"""Every DAG is documented, owned, bounded in time and quick to parse."""

import itertools
import json
import os
import runpy
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from recsys.schemas import ShardResult
from tests.dags.conftest import DAGS

FILES = sorted(path for path in DAGS.glob("*.py") if "@dag(" in path.read_text())
NIGHT = [
    "check_run", "wait_for_logs", "hold_date", "collect", "train", "evaluate_gate", "recommend", "publish", "simulate",
    "upload_logs", "abtest_report", "promote_or_hold",
]  # fmt: skip
#: Of CPU; 2.1 were seen on a busy machine.
PARSE_SECONDS = 8.0


def test_no_import_errors(dag_bag: Any) -> None:
    assert dag_bag.import_errors == {}
    assert set(dag_bag.dags) == {"nightly_recommender", "collect_traffic", "tune_dae", "change_live", "rollout"}


def test_dags_are_documented_and_bounded(dag_bag: Any) -> None:
    for dag in dag_bag.dags.values():
        assert "### Triage" in dag.doc_md, dag.dag_id
        assert all((dag.tags, dag.description, dag.dagrun_timeout)), dag.dag_id
        assert dag.max_active_runs <= 3
        assert dag.has_on_failure_callback, dag.dag_id
        assert dag.catchup is False
        expected = "Nightly" if dag.dag_id in ("nightly_recommender", "collect_traffic") else "NullTimetable"
        assert type(dag.timetable).__name__ == expected


def test_partitions_of_an_asset_would_allow_no_backfill() -> None:
    """The day this fails a night may begin as soon as its logs are there, see docs/airflow.md."""
    from airflow.timetables.simple import PartitionedAssetTimetable

    assert not PartitionedAssetTimetable.periodic


def test_tasks_are_owned_retried_and_bounded(dag_bag: Any) -> None:
    for dag in dag_bag.dags.values():
        for task in dag.tasks:
            assert task.owner == "recommendations", task
            assert task.retries >= 1, task
            assert task.retry_exponential_backoff, task
            assert task.execution_timeout is not None, task


def test_triage_names_every_task(dag_bag: Any) -> None:
    for dag in dag_bag.dags.values():
        missing = [t.task_id for t in dag.tasks if t.task_id not in dag.doc_md and not t.is_teardown]
        assert set(missing) <= {"recommend"}, dag.dag_id


def test_params_have_titles_and_descriptions(dag_bag: Any) -> None:
    for dag in dag_bag.dags.values():
        for name in dag.params:
            param = dag.params.get_param(name)
            assert param.schema.get("title"), f"{dag.dag_id}.{name}"
            assert param.description, f"{dag.dag_id}.{name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("log_date", "yesterday"), ("episodes", 0), ("seed", -1), ("shards", 65), ("window", 1), ("promote", True)],
)
def test_params_refuse_bad_values(dag_bag: Any, name: str, value: object) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    param = dag_bag.dags["nightly_recommender"].params.get_param(name)
    with pytest.raises(ParamValidationError):
        param.resolve(value)


@pytest.mark.parametrize("name", ["action", "why"])
def test_change_live_has_no_default_that_moves_anything(dag_bag: Any, name: str) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    param = dag_bag.dags["change_live"].params.get_param(name)
    assert not param.has_value
    for value in ({}, {"value": None}, {"value": ""}):
        with pytest.raises(ParamValidationError):
            param.resolve(**value)


def test_change_live_says_all_in_words(dag_bag: Any) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    param = dag_bag.dags["change_live"].params.get_param("version")
    assert param.resolve() is None
    assert param.resolve("*") == "*"
    assert param.resolve("2026-01-05-0a1b2c3d") == "2026-01-05-0a1b2c3d"
    for value in ("", "all", "**", "2026-01-05"):
        with pytest.raises(ParamValidationError):
            param.resolve(value)


def test_change_live_names_the_person_who_was_logged_in(dag_bag: Any) -> None:
    who = dag_bag.dags["change_live"].get_task("change").python_callable.__wrapped__.__globals__["_who"]
    run = SimpleNamespace(run_id="manual__1", triggering_user_name="ann")
    assert who(run) == "person ann by run manual__1"
    run.triggering_user_name = None
    assert who(run) == "run manual__1"


def test_the_night_is_wired_in_order(dag_bag: Any) -> None:
    dag = dag_bag.dags["nightly_recommender"]
    for before, after in itertools.pairwise(NIGHT):
        assert after in {t.task_id for t in dag.get_task(before).get_flat_relatives(upstream=False)}, f"{before} -> {after}"
    assert dag.get_task("simulate").is_mapped
    assert "hold_date" in {t.task_id for t in dag_bag.dags["collect_traffic"].get_task("plan_traffic").upstream_list}


PROGRAM = """
import os, sys, time
sys.path[:0] = sys.argv[1:3]
import airflow.sdk, airflow.dag_processing.dagbag  # the dag-processor has them loaded
from airflow.providers.standard.decorators import python, sensor, short_circuit
for path in sys.argv[3:]:
    if os.fork():
        assert os.wait()[1] == 0, path
        continue
    before = set(sys.modules)
    begin = time.process_time()
    exec(compile(open(path).read(), path, "exec"), {"__name__": "parsed"})
    seconds = time.process_time() - begin
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    heavy = sorted(new & {"torch", "pandas", "ibis", "duckdb", "scipy", "matplotlib", "tea_tasting", "pyarrow"})
    print("parsed", path, seconds, *heavy, flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("simulation", ["process", "docker"])
@pytest.mark.slow
def test_files_parse_quickly_without_heavy_imports(simulation: str) -> None:
    environment = os.environ | {"RECSYS_SIMULATION": simulation, "PYTHONPATH": str(DAGS.parent)}
    words = [sys.executable, "-c", PROGRAM, str(DAGS), str(DAGS.parent / "plugins"), *map(str, FILES)]
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    parsed = [line.split()[1:] for line in answer.stdout.splitlines() if line.startswith("parsed ")]
    assert [path for path, *_ in parsed] == [str(path) for path in FILES]
    for path, seconds, *heavy in parsed:
        assert float(seconds) < PARSE_SECONDS, path
        assert heavy == [], path


@pytest.mark.parametrize("source", ["simulate", "live", "none"])
def test_only_a_simulated_experiment_has_shards(dag_bag: Any, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    assert dag_bag.dags  # puts the folder of the DAGs on the path
    monkeypatch.setenv("RECSYS_EXPERIMENT_SOURCE", source)
    night = runpy.run_path(str(DAGS / "nightly_recommender.py"))["nightly_recommender"]()
    assert ({"simulate", "upload_logs"} & set(night.task_dict) != set()) == (source == "simulate")
    assert night.task_dict["abtest_report"].upstream_task_ids == {"upload_logs" if source == "simulate" else "publish"}


def test_a_rollout_is_looked_at_every_hour_where_there_is_a_rule(dag_bag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dag_bag.dags  # puts the folder of the DAGs on the path
    monkeypatch.setenv("RECSYS_ROLLOUT", "config/rollout.yml")
    rollout = next(dag for dag in runpy.run_path(str(DAGS / "rollout.py")).values() if getattr(dag, "dag_id", "") == "rollout")
    assert rollout.timetable.expression == "0 * * * *"
    assert not rollout.catchup


def test_results_come_from_dictionaries_and_from_what_containers_printed(dag_bag: Any) -> None:
    from simulation import results

    from recsys.exceptions import SimulationError

    assert dag_bag.dags  # puts the folder of the DAGs on the path
    expected = ShardResult("base.0.a", 0, 3, 9, 3, 1.0, 0.1, 4.0, 0.2)
    line = json.dumps(asdict(expected))
    summary, progress = "3 episodes: session time 1.0 +- 0.1", "3 of 3 episodes (100 %)"
    pieces = [[progress, f"{summary}\n{line}"], [summary, line, progress], [f"{summary}\n{line}\n{progress}"]]
    assert results([asdict(expected), *pieces]) == [expected] * 4
    with pytest.raises(SimulationError, match="told no result"):
        results([[progress]])
