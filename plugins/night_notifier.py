"""Tells people what a night needs them for: a failure, a refusal by the gate, a hold, a deadline that passed.

Always to the log; also by the Airflow connection ``nightshift_notify``, if there is one: of type SMTP (its extra ``to`` names the
recipients) or Slack webhook. It stands among the plugins because the triggerer must be able to import it.
"""

import asyncio
import html
import logging
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.bases.notifier import BaseNotifier
from airflow.sdk.exceptions import AirflowNotFoundException
from night_failures import sentence_of

from recsys.exceptions import InvalidInputError
from recsys.night import log_date as log_dates

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

CONNECTION = "nightshift_notify"

log = logging.getLogger(__name__)


def tell(subject: str, text: str) -> None:
    """Log a message, and send it if the connection exists. A message that cannot be sent never fails the night."""
    log.warning("%s: %s", subject, text)
    try:
        connection = BaseHook.get_connection(CONNECTION)
    except AirflowNotFoundException:
        return
    _try_to_send(connection, subject, text)


async def tell_from_triggerer(subject: str, text: str) -> None:
    """The same from an event loop."""
    log.warning("%s: %s", subject, text)
    try:
        connection = await BaseHook.aget_connection(CONNECTION)
    except AirflowNotFoundException:
        return
    await asyncio.to_thread(_try_to_send, connection, subject, text)


def _try_to_send(connection: "Connection", subject: str, text: str) -> None:
    try:
        _send(connection, subject, text)
    except Exception as error:
        log.error("the message could not be sent by connection %s: %s: %s", CONNECTION, type(error).__name__, error)


def _send(connection: "Connection", subject: str, text: str) -> None:
    if connection.conn_type == "smtp":
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        recipients = connection.extra_dejson.get("to")
        if not recipients:
            raise ValueError("its extra has no 'to', which must hold the recipients")
        with SmtpHook(smtp_conn_id=CONNECTION) as hook:
            hook.send_email_smtp(to=recipients, subject=f"[nightshift] {subject}", html_content=f"<p>{html.escape(text)}</p>")
    elif connection.conn_type == "slackwebhook":
        from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

        SlackWebhookHook(slack_webhook_conn_id=CONNECTION).send(text=f"*{subject}*\n{text}")
    else:
        raise ValueError(f"its type is {connection.conn_type!r}; it must be 'smtp' or 'slackwebhook'")


class NightNotifier(BaseNotifier):
    """A message about a run, as a callback of a DAG or of a deadline."""

    template_fields = ("subject", "text")

    def __init__(self, subject: str, text: str, context: "Context | None" = None) -> None:
        super().__init__(context)
        self.subject, self.text = subject, text

    def notify(self, context: "Context | None") -> None:
        """Send it, with the run that it is about."""
        tell(self.subject, self._about(context))

    async def async_notify(self, context: "Context | None") -> None:
        """The same, in the triggerer."""
        await tell_from_triggerer(self.subject, self._about(context))

    def _about(self, context: "Context | None") -> str:
        """The text with what the context knows: DAG and run, log date, failed task with its sentence, link."""
        run = (context or {}).get("dag_run")
        if run is None:
            return self.text
        # The triggerer hands over a dictionary.
        dag, name = (run[key] if isinstance(run, dict) else getattr(run, key) for key in ("dag_id", "run_id"))
        told = f"{self.text} Run: {dag} {name}"
        return f"{told}, {_failure(context)}" if context and "ti" in context else told


class LateNotifier(NightNotifier):
    """The message of a deadline. A run that has ended by then is not late: one that failed keeps its deadline, to be cleared."""

    async def async_notify(self, context: "Context | None") -> None:
        """Send it from the triggerer, which hands over the run as a dictionary, unless the run has ended."""
        run = (context or {}).get("dag_run")
        if isinstance(run, dict) and run.get("state") in ("success", "failed"):
            log.info("run %s has ended: %s", run.get("run_id"), run["state"])
            return
        await super().async_notify(context)


def _failure(context: "Context") -> str:
    """Log date, failed task, its sentence and a link."""
    task = context["ti"]
    part = f"[{task.map_index}]" if task.map_index is not None and task.map_index >= 0 else ""
    sentence = sentence_of(context) or "its log tells more"
    return f"{_log_date_of(context)}task {task.task_id}{part}: {sentence} {task.log_url}"


def _log_date_of(context: "Context") -> str:
    run, params = context["dag_run"], context["params"]
    if "log_date" not in params:
        return ""
    run_type = str(getattr(run.run_type, "value", run.run_type))
    try:
        return f"log date {log_dates.resolve(params['log_date'], run.data_interval_start, run_type, run.run_after)}, "
    except InvalidInputError:
        return ""
