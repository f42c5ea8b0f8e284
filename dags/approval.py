"""The task ``approve`` of a night: a person is asked before a candidate becomes live. It is there with ``RECSYS_APPROVAL=1``.

Airflow's own ``ApprovalOperator`` skips what follows a refusal. A night goes on: it records who refused, and holds.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import run_context
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from simulation import shard_of

from recsys.night import steps
from recsys.night.promote import Answer
from recsys.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context

TASK = "approve"


class AskBeforePromotion(HITLOperator):
    """Asks, unless the candidate would be held anyway; who does not answer in time has refused."""

    def execute(self, context: "Context") -> None:
        """Put the question, and wait; or go on at once."""
        if run_context.is_backfill():
            self.log.info("a backfill asks nobody")
            return
        with run_context.working() as (night, _):
            parts = context["ti"].xcom_pull(task_ids="publish")
            found = steps.question(night, shard_of(parts[0]).version, wanted=run_context.promotion())
        if found is None:
            self.log.info("the candidate is held anyway: nobody is asked")
            return
        self.subject = f"Promote the candidate of {night.log_date}?"
        self.body = f"{found}\n\n[Report](/nightshift/night/{night.log_date}/report.html)"
        super().execute(context)


def approve(settings: Settings) -> AskBeforePromotion:
    """The task."""
    options = [ApprovalOperator.APPROVE, ApprovalOperator.REJECT]
    return AskBeforePromotion(
        task_id=TASK,
        subject="",
        options=options,
        defaults=ApprovalOperator.REJECT,
        response_timeout=timedelta(hours=settings.approval_hours),
    )


def answer_of(event: Mapping[str, object] | None) -> Answer | None:
    """What a person answered, from what the task has left; None if nobody was asked."""
    if not event:
        return None
    user = event.get("responded_by_user")
    name = str(user.get("name") or user.get("id")) if isinstance(user, Mapping) else ""
    return Answer(bool(name) and event.get("chosen_options") == [ApprovalOperator.APPROVE], name)
