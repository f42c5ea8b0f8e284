"""A running Airflow with the report pages: the parts that a test asks for, in one directory, ended with the block."""

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys.exceptions import UnavailableError
from recsys.platform import components
from recsys.platform.client import AirflowClient
from recsys.platform.ports import free_ports
from recsys.settings import Settings
from tests.support import postgres


@dataclass
class Site:
    """A running Airflow: its address, a logged-in client, the user's password, what the parts print, their environment."""

    url: str
    client: AirflowClient
    password: str
    log: Path
    environment: dict[str, str]

    def get(self, path: str, token: str | None = None) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers of a GET whose path is sent as it is."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=30) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), dict(error.headers)

    def token(self) -> str:
        """A token of the user, as the REST API gives it."""
        body = json.dumps({"username": components.USER, "password": self.password}).encode()
        request = urllib.request.Request(f"{self.url}/auth/token", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.loads(answer.read())["access_token"])

    def cli(self, *words: str) -> str:
        """Output of an ``airflow`` command on the same database."""
        answer = subprocess.run(
            components.airflow_words(*words), env=self.environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def wait_until(self, condition: Callable[[AirflowClient], object]) -> None:
        """Until the api-server answers and the condition holds."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            with contextlib.suppress(UnavailableError):
                if condition(self.client):
                    return
            time.sleep(0.5)
        raise AssertionError(self.log.read_text()[-4000:])


@contextlib.contextmanager
def airflow(root: Path, *parts: str, **more: str) -> Iterator[Site]:
    """Parts of Airflow on a new database below ``root``, which also holds the storage; ``more`` stands in their environment."""
    ports = dict(zip(("port_airflow", "port_redis", "port_service", "port_database"), free_ports(4), strict=True))
    settings = components.own_settings(Settings(var=root / "var", world=root / "world", **ports), "process")
    environment = components.environment(settings, scheduled=False)
    environment = {name: value for name, value in environment.items() if name != "RECSYS_STORAGE"} | more
    url, log = f"http://{components.HOST}:{settings.port_airflow}", root / "airflow.log"
    database = components.own_database(settings)
    assert database is not None
    with log.open("w") as output, contextlib.ExitStack() as stack:
        stack.callback(postgres.forget, settings.var)
        database.prepare()
        stack.enter_context(postgres.running(database))
        words = components.airflow_words("db", "migrate")
        subprocess.run(words, env=environment, check=True, stdout=output, stderr=output)
        for part in parts:
            words = components.airflow_words(part)
            process = subprocess.Popen(words, env=environment, stdout=output, stderr=output, start_new_session=True)
            stack.callback(_end, process)
        password = components.load_secrets(settings.var).password
        yield Site(url, AirflowClient(url, components.USER, password), password, log, environment)


def _end(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
