"""The live version, moved by a person from the web UI; the same as ``recsys promote``, ``rollback``, ``hold`` and ``release``."""

from datetime import datetime, timedelta

import run_context
from airflow.sdk import Param, dag, get_current_context, task
from run_context import step

from recsys.storage.store import Storage
from recsys.versions import keyspace, pointer, restore

DOC = """
### What it does
Moves or holds the version that serves listeners, once, because a person says so. Every move is in the audit trail
(`recsys audit`), with the run's id and the reason.

| action | what happens |
|---|---|
| promote | `version` becomes live, whatever its log date |
| rollback | the previous version becomes live; the one that is left is blocked until it is released |
| hold | `version` may not be promoted; without a version: no night promotes anything |
| release | ends a hold, of `version` or of all |

### Triage
A failed `change` has changed nothing: its message says why (blocked, held, nothing to go back to, version not in Redis).

Owner: recommendations. More: docs/runbook.md.
"""


@task
@step
def change() -> str:
    """Do it, and copy the outcome to the storage."""
    context = get_current_context()
    params, settings = context["params"], run_context.settings()
    client = keyspace.connect(settings)
    who, why, version = f"run {context['dag_run'].run_id}", params["why"], params["version"]
    if params["action"] == "rollback":
        sentence = pointer.rollback(client, who=who, why=why)
    elif params["action"] == "promote":
        sentence = pointer.make_live(client, version or "", who=who, why=why)
    else:
        action = pointer.hold if params["action"] == "hold" else pointer.release
        sentence = action(client, version or pointer.EVERY, who=who, why=why)
    restore.save(client, Storage(settings.storage_url))
    print(sentence)
    return sentence


@dag(
    dag_id="change_live",
    description="Promote, roll back, hold or release a version by hand",
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
            "rollback",
            enum=["promote", "rollback", "hold", "release"],
            title="Action",
            description="What to do with the live version.",
        ),
        "version": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d{2}-\d{2}-[0-9a-f]{8}$",
            title="Version",
            description="As 'recsys nights' lists it. Not used by a rollback; empty: all versions, for hold and release.",
        ),
        "why": Param(type="string", minLength=3, title="Reason", description="For the audit trail."),
    },
)
def change_live() -> None:
    """One task."""
    change()


change_live()
