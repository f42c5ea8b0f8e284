"""What a person answered, from what Airflow keeps of it."""

from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("event", "approved", "who"),
    [
        ({"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "ann"}}, True, "ann"),
        ({"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": ""}}, True, "1"),
        ({"chosen_options": ["Reject"], "responded_by_user": {"id": "1", "name": "ann"}}, False, "ann"),
        # Airflow takes the default when the time is over.
        ({"chosen_options": ["Reject"], "responded_by_user": None}, False, ""),
        ({"chosen_options": ["Approve"], "responded_by_user": None}, False, ""),
        ({"chosen_options": []}, False, ""),
    ],
)
def test_an_answer_is_a_person_s(dag_bag: Any, event: dict[str, Any], approved: bool, who: str) -> None:
    assert "nightly_recommender" in dag_bag.dags
    from approval import answer_of

    found = answer_of(event)
    assert found is not None
    assert (found.approved, found.who) == (approved, who)


def test_who_was_not_asked_has_not_answered(dag_bag: Any) -> None:
    assert "nightly_recommender" in dag_bag.dags
    from approval import answer_of

    assert answer_of(None) is None
    assert answer_of({}) is None


def test_a_backfill_asks_nobody(dag_bag: Any) -> None:
    assert "nightly_recommender" in dag_bag.dags
    from airflow.sdk.execution_time.context import set_current_context
    from approval import approve

    from recsys.settings import load_settings

    task = approve(load_settings(approval=True, approval_hours=3))
    assert task.response_timeout.total_seconds() == 3 * 3600
    context: Any = {"dag_run": SimpleNamespace(run_type="backfill"), "params": {}}
    with set_current_context(context):
        assert task.execute(context) is None
