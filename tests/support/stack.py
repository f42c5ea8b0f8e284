"""The whole stack for tests: from a copy of the sources, by the commands that a person would give, on an engine of its own."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys.platform.client import AirflowClient
from recsys.platform.components import ROOT
from tests.support.components import free_port
from tests.support.engine import Engine

PROJECT = "nightshift-test"
#: What a person may set in .env: a small world, few sessions, nothing by schedule.
SETTINGS = {
    "WORLD_TRACKS": "1500", "WORLD_USERS": "400", "RECSYS_EPISODES": "4000", "RECSYS_TRAFFIC_SESSIONS": "2500",
    "RECSYS_TRAFFIC_DATES": "3", "AIRFLOW_SCHEDULED": "False", "HEALTH_INTERVAL": "15s", "COMPOSE_PROJECT_NAME": PROJECT,
}  # fmt: skip
LONG = 2700


@contextmanager
def engine_of_tests() -> Iterator[str]:
    """Address of a Docker engine: NIGHTSHIFT_TEST_DOCKER_HOST's, whose images stay, or one that lasts as long as the block.

    Engines with a bridge clear each other's packet filter when they start: where one runs already, name it.
    """
    given = os.environ.get("NIGHTSHIFT_TEST_DOCKER_HOST")
    if given:
        yield given
        return
    engine = Engine(Path(tempfile.mkdtemp(prefix="recsys-stack-")), has_bridge=True)
    try:
        yield engine.start().host
    finally:
        engine.stop()
        shutil.rmtree(engine.directory, ignore_errors=True)


def copy_sources(target: Path) -> None:
    """What a clone would hold, with the changes that have not been committed."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.split(b"\0")
    for name in filter(None, names):
        source, copy = ROOT / os.fsdecode(name), target / os.fsdecode(name)
        if source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


@dataclass
class Stack:
    """A stack in a directory of its own.

    Args:
        directory: copy of the sources; .env stands here.
        host: the Docker engine.
    """

    directory: Path
    host: str
    ports: dict[str, int] = field(default_factory=lambda: {"AIRFLOW_PORT": free_port(), "SERVICE_PORT": free_port()})

    def configure(self, **settings: str) -> None:
        """Add settings to .env, as a person does."""
        file = self.directory / ".env"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as output:
            output.writelines(f"{name}={value}\n" for name, value in settings.items())

    def env(self) -> dict[str, str]:
        """What stands in .env."""
        lines = (self.directory / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def run(self, *words: str, code: int | None = 0, given: str = "", seconds: float = LONG) -> str:
        """Output of a command in the stack's directory."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RECSYS_", "AIRFLOW", "COMPOSE_", "BASE_IMAGE", "MAKE"))}
        answer = subprocess.run(
            words, cwd=self.directory, env=kept | {"DOCKER_HOST": self.host}, input=given, capture_output=True, text=True,
            check=False, timeout=seconds,
        )  # fmt: skip
        if code is not None:
            assert answer.returncode == code, f"{words}: {answer.returncode}\n{answer.stdout[-6000:]}{answer.stderr[-6000:]}"
        return answer.stdout + (answer.stderr if code != 0 else "")

    def compose(self, *words: str, code: int | None = 0, given: str = "") -> str:
        """Output of ``docker compose``."""
        return self.run("docker", "compose", *words, code=code, given=given)

    def inside(self, service: str, *words: str, code: int | None = 0, given: str = "") -> str:
        """Output of a command in a running container."""
        return self.compose("exec", "-T", service, *words, code=code, given=given)

    def python(self, service: str, program: str) -> str:
        """Output of a Python program in a running container."""
        return self.inside(service, "python3", "-c", program).strip()

    def containers(self) -> dict[str, str]:
        """Id of each running container by service."""
        rows = [json.loads(line) for line in self.compose("ps", "--format", "json").splitlines()]
        return {row["Service"]: row["ID"] for row in rows}

    def is_healthy(self, service: str) -> bool:
        """Whether a container's own check says so."""
        state = self.run("docker", "inspect", "--format", "{{.State.Health.Status}}", f"{PROJECT}-{service}-1", code=None)
        return state.strip() == "healthy"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['AIRFLOW_PORT']}"

    @property
    def client(self) -> AirflowClient:
        """Airflow's web API, as its first user."""
        env = self.env()
        return AirflowClient(self.url, env["AIRFLOW_ADMIN_USER"], env["AIRFLOW_ADMIN_PASSWORD"])

    def recsys(self, *words: str) -> str:
        """Output of a ``recsys`` command, run where tasks run."""
        return self.inside("scheduler", "recsys", *words)

    def digest(self, day: str) -> str:
        """Digest of a night that is in order."""
        answer = json.loads(self.recsys("verify", "--date", day, "--json"))
        assert answer["failures"] == []
        return str(answer["digest"])

    def task_log(self, task: dict[str, Any]) -> list[str]:
        """Lines of the log of a task's last try."""
        return self.client.log_tail(task, 10_000)


def secrets_of(stack: Stack) -> dict[str, str]:
    """Generated secrets by name."""
    names = ("PASSWORD", "SECRET", "KEY", "TOKEN")
    found = {name: value for name, value in stack.env().items() if name.endswith(names)}
    assert len(found) >= 7
    return found
