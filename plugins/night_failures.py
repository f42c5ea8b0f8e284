"""What people are told of a task's error: one raised on purpose by its sentence, any other by its frames too.

It stands among the plugins because the dag-processor sends the message about a failed run from what a task has noted here.
"""

import logging
import sys
from typing import TYPE_CHECKING

import structlog
from airflow.sdk import get_current_context

from recsys.exceptions import RecsysError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from structlog.typing import EventDict

#: Under this key a failed task leaves its sentence for :func:`sentence_of`.
KEY = "failure"

log = logging.getLogger(__name__)


def note(error: Exception) -> str:
    """Keep an error's sentence for the message about the run, and return it; Airflow logs no frames of one raised on purpose.

    Its frames are logged at the level DEBUG.
    """
    purposeful = isinstance(error, RecsysError)
    sentence = str(error) if purposeful else f"{type(error).__name__}: {error}"
    if purposeful:
        log.debug("raised here", exc_info=error)
        # In place, as structlog's own capture_logs does: loggers that are there already keep this list.
        processors = structlog.get_config()["processors"]
        if _without_frames not in processors:
            processors.insert(0, _without_frames)
    get_current_context()["ti"].xcom_push(KEY, sentence)
    return sentence


def sentence_of(context: "Context") -> str:
    """The sentence that the failed task of a run's callback has left; empty if it could not."""
    task = context["ti"]
    found = task.xcom_pull(task_ids=task.task_id, key=KEY, map_indexes=task.map_index)
    return str(found or "")


def _without_frames(_logger: object, _method: str, event: "EventDict") -> "EventDict":
    """A processor of structlog: the sentence instead of the frames, if the error under way was raised on purpose."""
    error = sys.exc_info()[1]
    if event.get("exc_info") is True and error and any(isinstance(one, RecsysError) for one in (error, error.__cause__)):
        del event["exc_info"]
        event["event"] = str(error)
    return event
