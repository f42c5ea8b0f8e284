"""What is live, changed by a person from the web UI: as ``recsys promote``, ``rollback``, ``hold``, ``release``, ``rollout``."""

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import run_context
from airflow.sdk import Param, dag, get_current_context, task
from run_context import MOVE, step

from recsys.exceptions import InvalidInputError
from recsys.night import rollout
from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer, restore

if TYPE_CHECKING:
    from airflow.sdk.types import DagRunProtocol

log = logging.getLogger(__name__)

DOC = """
### What it does
Moves or holds the version that serves listeners, once, because a person says so. Every move is in the audit trail
(`recsys audit`), with the name of who triggered it, the run's id and the reason. Nothing is filled in: an action and a reason are
always given, a version for everything but a rollback.

| action | what happens |
|---|---|
| promote | `version` becomes live, whatever its log date |
| rollback | the previous version becomes live; the one that is left is blocked until it is released |
| hold | `version` may not be promoted; `*`: no night promotes anything |
| release | ends a hold, of `version`, or `*`: the one of all |
| advance | `version`, which is being rolled out, is served to `share` percent of listeners; at 100 it becomes live |
| abort | `version` is being rolled out, and nobody gets it any more; it is blocked until it is released |

### Triage
A failed `change` has changed nothing: its message says why (blocked, held, nothing to go back to, version not in Redis).

Owner: recommendations. More: docs/runbook.md.
"""


@task(outlets=[MOVE])
@step
def change() -> str:
    """Do it, and copy the outcome to the storage."""
    context = get_current_context()
    params, settings = context["params"], run_context.settings()
    client = keyspace.connect(settings)
    before = pointer.read(client)
    who, why, version = _who(context["dag_run"]), params["why"], params["version"]
    if params["action"] == "rollback":
        sentence = pointer.rollback(client, who=who, why=why)
    elif not version:
        raise InvalidInputError(f"Param version is empty, but {params['action']} needs one; give one, or * for hold and release")
    elif params["action"] == "abort":
        sentence = rollout.abort(settings, client, version, who=who, why=why)
    elif params["action"] == "advance":
        if params["share"] is None:
            raise InvalidInputError("Param share is empty, but advance needs one; give one of the stages")
        sentence = rollout.advance(settings, client, params["share"], version, who=who, why=why)
    elif params["action"] == "promote":
        sentence = pointer.make_live(client, version, who=who, why=why)
    else:
        action = pointer.hold if params["action"] == "hold" else pointer.release
        sentence = action(client, version, who=who, why=why)
    run_context.tell_move(client, before)
    restore.save(client, Storage(settings.storage_url))
    log.info("%s", sentence)
    return sentence


def _who(run: "DagRunProtocol") -> str:
    """Who stands in the audit trail: the person who was logged in, if the run knows, and the run."""
    name = run.triggering_user_name
    return f"person {name} by run {run.run_id}" if name else f"run {run.run_id}"


@dag(
    dag_id="change_live",
    dag_display_name="Change what is live",
    description="Promote, roll back, hold, release, advance or abort a version by hand",
    doc_md=DOC,
    schedule=None,
    start_date=datetime(2024, 1, 1),
    max_active_runs=1,
    on_failure_callback=run_context.FAILED,
    dagrun_timeout=timedelta(minutes=30),
    is_paused_upon_creation=False,  # nothing but a person starts it
    default_args=run_context.DEFAULT_ARGS,
    tags=["recommender"],
    params={
        "action": Param(
            type="string",
            enum=["promote", "rollback", "hold", "release", "advance", "abort"],
            title="Action",
            description="What to do with the live version.",
        ),
        "version": Param(
            None,
            type=["null", "string"],
            pattern=r"^(\*|\d{4}-\d{2}-\d{2}-[0-9a-f]{8})$",
            title="Version",
            description="As the page Nights lists it. Not used by a rollback; * for hold and release: all versions.",
        ),
        "share": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            maximum=100,
            title="Share",
            description="Percent of listeners, for advance alone.",
        ),
        "why": Param(type="string", minLength=3, title="Reason", description="For the audit trail."),
    },
)
def change_live() -> None:
    """One task."""
    change()


change_live()
