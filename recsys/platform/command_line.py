"""Airflow's own command line in the platform's environment: ``recsys platform airflow …``.

In go the settings and Airflow's words; out come Airflow's output, without the platform's secrets, and its exit status.
"""

import os
import subprocess
import sys
from threading import Thread

from recsys.exceptions import InvalidInputError, MissingDataError, UnavailableError
from recsys.platform import components, engine
from recsys.platform.ports import HOST
from recsys.settings import Settings

HIDDEN = b"***"
CHUNK = 65536


def run(settings: Settings, words: list[str]) -> int:
    """Run ``airflow`` with these words; returns its exit status.

    Raises:
        MissingDataError: no platform was ever set up here. UnavailableError: its database is not up. InvalidInputError: a
            backfill is asked of SQLite, which cannot hold one.
    """
    var = settings.var.resolve()
    if not (var / "airflow" / "migrated").exists():
        raise MissingDataError(f"no platform was ever set up in {var}; 'recsys platform up' does, or RECSYS_VAR names another")
    if settings.is_on_sqlite and words[:2] == ["backfill", "create"]:
        raise InvalidInputError(
            "backfills need PostgreSQL; unset RECSYS_AIRFLOW_DATABASE, which is SQLite, for the platform's own"
        )
    database = components.own_database(settings)
    if database and not database.answers():
        raise UnavailableError(
            f"Airflow's database does not answer on {HOST}:{database.port}; start the platform ('recsys platform up')"
        )
    own = components.own_settings(settings, engine.choose(settings).simulation)
    environment = components.environment(own, scheduled=True)
    hidden = [secret.encode() for secret in components.load_secrets(var)]
    (output, out), (errors, err) = os.pipe(), os.pipe()
    with subprocess.Popen(components.airflow_words(*words), env=environment, stdout=out, stderr=err) as child:
        os.close(out)
        os.close(err)
        beside = Thread(target=_relay, args=(errors, sys.stderr.fileno(), hidden))
        beside.start()
        _relay(output, sys.stdout.fileno(), hidden)
        beside.join()
    return child.returncode


def _relay(source: int, sink: int, hidden: list[bytes]) -> None:
    """Hand on what comes at once, questions too. A chunk that is full may end within a word, so its last line waits."""
    waiting = b""
    with open(source, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            text, waiting = waiting + chunk, b""
            if len(chunk) == CHUNK:
                text, end, waiting = text.rpartition(b"\n")
                text += end
            os.write(sink, _without(text, hidden))
    os.write(sink, _without(waiting, hidden))


def _without(text: bytes, hidden: list[bytes]) -> bytes:
    for secret in hidden:
        text = text.replace(secret, HIDDEN)
    return text
