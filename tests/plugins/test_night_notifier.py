"""Messages to people: a real SMTP server and a real HTTP endpoint receive them."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from tests.dags.conftest import ROOT
from tests.support.components import free_port

CONNECTION = "AIRFLOW_CONN_NIGHTSHIFT_NOTIFY"
CONTEXT = {"dag_run": {"dag_id": "nightly_recommender", "run_id": "run-7"}}


@pytest.fixture
def notifier(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    import night_notifier

    return night_notifier


class Inbox(Message):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Any] = []

    def handle_message(self, message: Any) -> None:
        self.mails.append(message)


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    inbox, port = Inbox(), free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield inbox, port
    finally:
        controller.stop()


@pytest.fixture
def channel() -> Iterator[tuple[list[dict[str, Any]], int]]:
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield posted, server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_without_a_connection_it_is_logged(notifier: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        notifier.NightNotifier("a run failed", "Look.")(
            {"dag_run": SimpleNamespace(dag_id="nightly_recommender", run_id="run-7")}
        )
    assert "a run failed: Look. Run: nightly_recommender run-7" in caplog.text
    assert "could not be sent" not in caplog.text


def test_by_mail(notifier: Any, inbox: tuple[Inbox, int], monkeypatch: pytest.MonkeyPatch) -> None:
    mails, port = inbox
    extra = {"to": ["night@example.org"], "disable_ssl": True, "disable_tls": True, "from_email": "nightshift@example.org"}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv(CONNECTION, json.dumps(connection))
    notifier.tell("the gate refused", "NDCG <fell>")
    (mail,) = mails.mails
    assert mail["Subject"] == "[nightshift] the gate refused"
    assert mail["To"] == "night@example.org"
    parts = [part.get_payload(decode=True) for part in mail.walk() if not part.is_multipart()]
    assert b"<p>NDCG &lt;fell&gt;</p>" in b"".join(parts)


def test_to_slack_from_the_triggerer(
    notifier: Any, channel: tuple[list[dict[str, Any]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    posted, port = channel
    connection = {"conn_type": "slackwebhook", "host": f"http://127.0.0.1:{port}", "password": "T/B/x"}
    monkeypatch.setenv(CONNECTION, json.dumps(connection))

    async def run() -> None:
        await notifier.NightNotifier(subject="a run is late", text="Four hours.", context=CONTEXT)

    asyncio.run(run())
    assert posted == [{"text": "*a run is late*\nFour hours. Run: nightly_recommender run-7"}]


@pytest.mark.parametrize(("state", "told"), [("running", True), ("queued", True), ("failed", False), ("success", False)])
def test_a_run_that_has_ended_is_not_late(notifier: Any, caplog: pytest.LogCaptureFixture, state: str, told: bool) -> None:
    """A run that failed keeps its deadline, for it may be cleared."""
    context = {"dag_run": {**CONTEXT["dag_run"], "state": state}}
    with caplog.at_level(logging.WARNING):
        asyncio.run(notifier.LateNotifier(subject="a run is late", text="Four hours.").async_notify(context))
    assert ("a run is late: Four hours. Run: nightly_recommender run-7" in caplog.text) == told


def test_a_message_that_cannot_be_sent_fails_nothing(
    notifier: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for connection in ({"conn_type": "smtp", "host": "127.0.0.1"}, {"conn_type": "http", "host": "127.0.0.1"}):
        monkeypatch.setenv(CONNECTION, json.dumps(connection))
        notifier.tell("a run failed", "Look.")
    assert "its extra has no 'to'" in caplog.text
    assert "its type is 'http'; it must be 'smtp' or 'slackwebhook'" in caplog.text
