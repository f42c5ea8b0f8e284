"""The stack in containers: a night on HDFS from a clone; restarts, down and up, backup and restore, Celery; what is refused."""

import json
import re
import secrets
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recsys.exceptions import UnavailableError
from recsys.night.log_date import yesterday
from recsys.platform.client import FINISHED, AirflowClient
from recsys.platform.night import NIGHT
from tests.support.airflow import wait_until
from tests.support.stack import PROJECT, Stack, secrets_of

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack"), pytest.mark.timeout(3000)]

DAY = str(yesterday())
SERVICES = {
    "postgres", "valkey", "namenode", "datanode", "service", "dockerproxy", "api-server", "scheduler", "dag-processor",
    "triggerer",
}  # fmt: skip
CONTAINERS = ("docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}")
SIMULATIONS = ("ps", "--quiet", "--no-trunc", "--filter", f"label=org.nightshift.stack={PROJECT}")


def status_of(url: str, token: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def token(stack: Stack) -> str:
    client = stack.client
    client.call("GET", "/dags?limit=1")
    return client._token


def nights(stack: Stack) -> list[dict[str, Any]]:
    """Runs of the night, the first one first."""
    return list(stack.client.call("GET", f"/dags/{NIGHT}/dagRuns?order_by=start_date")["dag_runs"])


def play(stack: Stack, run: str, seconds: float = 600) -> list[dict[str, Any]]:
    """Trigger yesterday's night through the web API and wait for its green end; its tasks."""
    client = stack.client
    client.trigger(NIGHT, run, {"log_date": DAY})
    found = wait_until(lambda: end if (end := client.run(NIGHT, run))["state"] in FINISHED else None, seconds, run)
    tasks = client.tasks(NIGHT, run)
    assert found["state"] == "success", [(t["task_id"], t["state"], t["try_number"], client.log_tail(t, 8)) for t in tasks]
    return tasks


@pytest.fixture(scope="module")
def digest(stack: Stack) -> str:
    """Digest of the undisturbed night that `make stack` ran."""
    return stack.digest(DAY)


@pytest.fixture(scope="module")
def seen() -> list[str]:
    """What the engine told about simulation containers while they ran."""
    return []


@contextmanager
def watching_simulations(stack: Stack, seen: list[str]) -> Iterator[None]:
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(1.0):
            for container in stack.run("docker", *SIMULATIONS, code=None).split():
                seen.append(stack.run("docker", "inspect", container, code=None))
                seen.append(stack.run("docker", "top", container, "-eo", "uid,pid,args", code=None))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def test_make_stack_ends_with_a_green_night(stack: Stack, digest: str) -> None:
    (run,) = nights(stack)
    assert run["state"] == "success"
    simulate = [task for task in stack.client.tasks(NIGHT, run["dag_run_id"]) if task["task_id"] == "simulate"]
    assert [task["operator_name"] for task in simulate] == ["ShardContainer"] * 2
    assert "Starting docker container from image nightshift-simulator" in "\n".join(stack.task_log(simulate[0]))
    assert stack.run("docker", *SIMULATIONS, "--all") == ""
    # Logs of listeners and of the night stand on HDFS, and nowhere else.
    listed = stack.inside("namenode", "hadoop", "fs", "-ls", "-R", "/nightshift")
    for directory in (f"logs/date={DAY}", f"experiments/date={DAY}", f"reports/date={DAY}"):
        assert f"/nightshift/{directory}/_SUCCESS" in listed
    assert stack.python("scheduler", "import os; print(os.path.exists('/var/lib/nightshift/storage'))") == "False"
    assert len(digest) == 64
    # The tab of the run.
    code, page = status_of(f"{stack.url}/nightshift/run/{NIGHT}/{run['dag_run_id']}", token(stack))
    assert code == 200
    assert "<html" in page
    assert DAY in page


def test_who_has_not_logged_in_sees_nothing(stack: Stack) -> None:
    run = nights(stack)[0]["dag_run_id"]
    for path in (
        "/api/v2/dags", f"/api/v2/dags/{NIGHT}/dagRuns", "/api/v2/connections", "/api/v2/variables", "/nightshift/nights",
        f"/nightshift/run/{NIGHT}/{run}", f"/nightshift/night/{DAY}/report.html",
    ):  # fmt: skip
        assert status_of(stack.url + path)[0] in (401, 403), path
        assert status_of(stack.url + path, "no.such.token")[0] in (401, 403), path
    body = json.dumps({"username": "admin", "password": "admin"}).encode()
    request = urllib.request.Request(f"{stack.url}/auth/token", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, timeout=30)
    # Batches and previews need the service's token.
    service = f"http://127.0.0.1:{stack.ports['SERVICE_PORT']}"
    request = urllib.request.Request(f"{service}/batch", b'{"events": []}', {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, timeout=30)
    with urllib.request.urlopen(f"{service}/readyz", timeout=10) as answer:
        assert answer.status == 200


def test_valkey_without_the_password_is_refused(stack: Stack) -> None:
    program = (
        "import socket; s = socket.create_connection(('valkey', 6379), 5); s.sendall(b'{}\\r\\n'); print(s.recv(100).decode())"
    )
    for command in ("KEYS *", "AUTH wrong", "PING"):
        assert stack.python("service", program.format(command)).startswith(("-NOAUTH", "-WRONGPASS"))


def test_nothing_runs_as_root(stack: Stack) -> None:
    running = stack.containers()
    assert set(running) == SERVICES
    for service, container in running.items():
        lines = stack.run("docker", "top", container, "-eo", "uid,pid,args").splitlines()[1:]
        assert lines
        assert all(int(line.split()[0]) != 0 for line in lines), (service, lines)


def test_compose_file_is_valid_and_guarded(stack: Stack) -> None:
    stack.compose("config", "--quiet")
    # As it is used where registries are in reach.
    stack.compose("--file", "docker-compose.airflow.yml", "config", "--quiet")
    services = json.loads(stack.compose("--profile", "*", "config", "--format", "json"))["services"]
    assert set(services) == SERVICES | {"init", "celery-worker", "first-night"}
    for name, service in services.items():
        assert int(service["mem_limit"]) > 0, name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.get("privileged"), name
        assert service["restart"], name
        if name not in ("init", "first-night"):
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name
    assert {name for name, service in services.items() if service.get("ports")} == {"api-server", "service"}


REFUSED = """
import docker, os
client = docker.APIClient(os.environ["DOCKER_HOST"], version="auto")
image, network = os.environ["RECSYS_SIMULATOR_IMAGE"], os.environ["RECSYS_SIMULATION_NETWORK"]

def attempt(name, act):
    try:
        act()
        print(name, "PASSED")
    except docker.errors.APIError as error:
        print(name, error.status_code)

def create(**changes):
    host = dict(network_mode=network, mem_limit="1g") | changes.pop("host", {})
    wanted = dict(image=image, command=["recsys.simulate"]) | changes
    client.create_container(host_config=client.create_host_config(**host), **wanted)

attempt("privileged", lambda: create(host=dict(privileged=True)))
attempt("bind", lambda: create(host=dict(binds=["/:/host"])))
attempt("network", lambda: create(host=dict(network_mode="host")))
attempt("capability", lambda: create(host=dict(cap_add=["SYS_ADMIN"])))
attempt("image", lambda: create(image="nightshift-airflow"))
attempt("root", lambda: create(user="0"))
attempt("command", lambda: create(command=["recsys.cli", "serve"]))
attempt("entrypoint", lambda: create(entrypoint=["sh"]))
attempt("list", lambda: client.containers())
attempt("volumes", lambda: client.volumes())
attempt("pull", lambda: client.pull("postgres"))
attempt("other's", lambda: client.inspect_container(OTHER))
attempt("kill other's", lambda: client.kill(OTHER))
attempt("exec", lambda: client.exec_create(OTHER, "sh"))
"""


def test_the_engine_runs_nothing_but_simulations(stack: Stack) -> None:
    other = stack.run("docker", "inspect", "--format", "{{.Id}}", stack.containers()["postgres"]).strip()
    told = stack.python("scheduler", f"OTHER = {other!r}\n{REFUSED}").splitlines()
    assert len(told) == 14
    assert all(line.endswith(" 403") for line in told), told
    # Only what runs tasks reaches the proxy at all.
    connect = "socket.create_connection(('dockerproxy', 2375), 3)"
    program = f"import socket\ntry: {connect}; print('open')\nexcept OSError: print('closed')"
    assert stack.python("scheduler", program) == "open"
    assert stack.python("api-server", program) == stack.python("service", program) == "closed"


#: In one process: an `airflow` command takes seconds to begin. The password stands in no argument of a process.
MAKE_USERS = """
import sys
from airflow.cli import cli_parser
for role in ("Viewer", "User", "Op"):
    given = {"username": role.lower(), "password": PASSWORD, "role": role, "firstname": role, "lastname": role}
    given["email"] = role + "@localhost"
    words = ["users", "create", *(word for name, value in given.items() for word in ("--" + name, value))]
    arguments = cli_parser.get_parser().parse_args(words)
    arguments.func(arguments)
"""


def test_a_viewer_sees_and_a_user_changes_what_is_live(stack: Stack) -> None:
    password = secrets.token_urlsafe(12)
    stack.inside("scheduler", "python3", "-", given=f"PASSWORD = {password!r}\n{MAKE_USERS}")
    people = {role: AirflowClient(stack.url, role, password) for role in ("viewer", "user", "op")}
    last = nights(stack)[-1]["dag_run_id"]
    hold = {"conf": {"action": "hold", "version": "2020-01-01-0a1b2c3d", "why": "a test of roles"}, "logical_date": None}
    for name, person in people.items():
        person.call("GET", f"/dags/{NIGHT}/dagRuns")
        for path in ("nights", f"run/{NIGHT}/{last}", f"night/{DAY}/report.html", "change"):
            assert status_of(f"{stack.url}/nightshift/{path}", person._token)[0] == 200, (name, path)
    viewer = people["viewer"]
    for method, path, body in (
        ("POST", "/dags/change_live/dagRuns", hold),
        ("POST", f"/dags/{NIGHT}/dagRuns", {"conf": {}, "logical_date": None}),
        ("POST", f"/dags/{NIGHT}/clearTaskInstances", {"dag_run_id": last, "dry_run": False}),
        ("PATCH", f"/dags/{NIGHT}/dagRuns/{last}?update_mask=state", {"state": "failed"}),
        ("PATCH", f"/dags/{NIGHT}?update_mask=is_paused", {"is_paused": True}),
        ("GET", "/connections", None),
    ):
        with pytest.raises(UnavailableError, match="answered 403"):
            viewer.call(method, path, body)
    assert len(nights(stack)) == 1
    with pytest.raises(UnavailableError, match="answered 403"):
        people["user"].call("GET", "/connections")
    assert people["op"].call("GET", "/connections")["total_entries"] > 0
    held = people["user"].call("POST", "/dags/change_live/dagRuns", hold)["dag_run_id"]
    wait_until(lambda: stack.client.run("change_live", held)["state"] == "success", 200, held)
    entry = json.loads(stack.recsys("audit", "--json"))[-1]
    assert (entry["action"], entry["who"]) == ("hold", f"person user by run {held}")
    stack.recsys("release", "2020-01-01-0a1b2c3d", "--why", "a test of roles")


#: During which task each part is started again, in the order of the night.
RESTARTS = [
    ("collect", "namenode"), ("train", "datanode"), ("train", "dag-processor"), ("train", "api-server"), ("train", "triggerer"),
    ("recommend", "postgres"), ("simulate", "service"), ("simulate", "dockerproxy"), ("abtest_report", "valkey"),
    ("abtest_report", "scheduler"),
]  # fmt: skip


@pytest.mark.drill("stack", "each of its containers restarted during a night", "green; the same digest")
def test_nights_survive_the_restart_of_every_container(stack: Stack, digest: str, seen: list[str]) -> None:
    """As many nights as it takes: a night that ends before all restarts were done is played again for the others."""
    assert {service for _, service in RESTARTS} == SERVICES
    client = stack.client
    runs: list[str] = []
    told: list[str] = []

    def begin() -> None:
        runs.append(f"restarts-{len(runs) + 1}")
        client.trigger(NIGHT, runs[-1], {"log_date": DAY})

    def state() -> str:
        try:
            return str(client.run(NIGHT, runs[-1])["state"])
        except Exception as error:
            return type(error).__name__

    def reached(task: str) -> bool:
        try:
            states = {t["task_id"]: t["state"] for t in client.tasks(NIGHT, runs[-1])}
        except Exception:
            return False
        return states.get(task) in ("running", "success", "up_for_retry")

    def story() -> None:
        """What pytest shows of a failure."""
        print(time.monotonic() - began, runs, *told, sep="\n")
        for task in client.tasks(NIGHT, runs[-1]):
            print({name: task[name] for name in ("task_id", "map_index", "state", "try_number", "start_date", "end_date")})
            if task["state"] in ("failed", "up_for_retry", "running"):
                print(*client.log_tail(task, 30), sep="\n")

    began = time.monotonic()
    begin()
    try:
        with watching_simulations(stack, seen):
            for task, service in RESTARTS:
                # Two lost tries and what lies between tries are minutes.
                wait_until(lambda task=task: reached(task) or state() in FINISHED, 600, f"{task} before the restart of {service}")
                if state() in FINISHED:
                    begin()
                    wait_until(lambda task=task: reached(task), 300, f"{task} before the restart of {service}")
                told.append(f"{time.monotonic() - began:.0f} s: {service} during {task} of {runs[-1]}")
                stack.compose("restart", service)
                wait_until(lambda service=service: stack.is_healthy(service), 300, service)
            wait_until(lambda: state() in FINISHED, 600, runs[-1])
        assert [client.run(NIGHT, run)["state"] for run in runs] == ["success"] * len(runs)
    finally:
        story()
    assert stack.digest(DAY) == digest


def test_secrets_are_nowhere_to_be_read(stack: Stack, seen: list[str]) -> None:
    assert (stack.directory / ".env").stat().st_mode & 0o777 == 0o600
    assert ".env" in (stack.directory / ".gitignore").read_text().split()
    known = secrets_of(stack)
    patterns = "\n".join(known.values()) + "\n"

    def clean(text: str, where: str) -> None:
        assert text.strip(), where
        assert [name for name, value in known.items() if value in text] == [], where

    clean((stack.directory / "docker-compose.airflow.yml").read_text(), "compose file")
    clean(stack.compose("logs", "--no-color"), "logs of containers")
    clean("".join(seen), "inspection of simulation containers")
    assert any('"org.nightshift.shard"' in text for text in seen)
    tops = [line for text in seen if text.startswith("UID") for line in text.splitlines()[1:]]
    assert tops
    assert all(int(line.split()[0]) != 0 for line in tops)
    for container in stack.run(*CONTAINERS).split():
        clean(stack.run("docker", "inspect", container), f"inspection of {container}")
    images = {
        image for image in stack.run("docker", "images", "--format", "{{.Repository}}").split() if image.startswith("nightshift")
    }
    assert len(images) >= 5
    search = (
        "grep -rlF --exclude-dir=site-packages --exclude-dir=proc --exclude-dir=sys -f /dev/stdin / 2>/dev/null; test $? -le 2"
    )
    for image in images:
        clean(stack.run("docker", "history", "--no-trunc", image) + stack.run("docker", "inspect", image), image)
        run = ("docker", "run", "--rm", "--interactive", "--network", "none", "--entrypoint", "sh", image, "-c", search)
        assert stack.run(*run, given=patterns) == "", image
    run_ids = [run["dag_run_id"] for run in nights(stack)]
    for run_id in run_ids:
        tasks = stack.client.call("GET", f"/dags/{NIGHT}/dagRuns/{run_id}/taskInstances?limit=300")
        assert any(task["rendered_fields"].get("command") for task in tasks["task_instances"])
        clean(json.dumps(tasks), "rendered templates")
    logs = "grep -rlF -f /dev/stdin /var/lib/nightshift/airflow-logs; test $? -eq 1"
    assert stack.inside("scheduler", "sh", "-c", logs, given=patterns) == ""
    # In Airflow's database connections are encrypted, the user's password is hashed.
    dump = "PGPASSWORD=$(cat /run/secrets/postgres_password) pg_dump -h 127.0.0.1 -U airflow airflow"
    clean(stack.inside("postgres", "sh", "-c", dump), "database")


def kept(stack: Stack) -> dict[str, Any]:
    """What must outlive a stop and a restored backup."""
    client = stack.client
    tasks = client.tasks(NIGHT, nights(stack)[0]["dag_run_id"])
    (train,) = [task for task in tasks if task["task_id"] == "train"]
    return {
        "digest": stack.digest(DAY),
        "nights": json.loads(stack.recsys("nights", "--json")),
        "audit": json.loads(stack.recsys("audit", "--json")),
        "runs": [(run["dag_run_id"], run["state"]) for run in nights(stack)],
        "log": stack.task_log(train),
        "report": status_of(f"{stack.url}/nightshift/night/{DAY}/report.html", token(stack)),
        "hdfs": re.findall(
            r"(\d+) \S+ \S+ (/nightshift\S+)", stack.inside("namenode", "hadoop", "fs", "-ls", "-R", "/nightshift")
        ),
        "world": stack.inside("service", "sh", "-c", "cat /world/*.json | sha256sum"),
    }


ROTATED = ("AIRFLOW_API_SECRET", "AIRFLOW_JWT_SECRET", "VALKEY_PASSWORD", "RECSYS_SERVICE_TOKEN")


@pytest.mark.drill("stack", "stopped, and started with new secrets", "all that was there is there")
def test_stop_and_start_lose_nothing(stack: Stack, digest: str) -> None:
    listed = stack.inside("namenode", "hadoop", "fs", "-cat", f"/nightshift/promotions/date={DAY}/promotion.json")
    stack.recsys("promote", json.loads(listed)["version"], "--why", "a live version for the tests")
    before = kept(stack)
    assert before["digest"] == digest
    assert len(before["log"]) > 3
    assert before["report"][0] == 200
    stack.run("make", "stack-down")
    assert stack.run(*CONTAINERS) == ""
    # The next start is with new secrets and with workers of Celery.
    env = stack.directory / ".env"
    old = stack.env()
    env.write_text("".join(line for line in env.read_text().splitlines(True) if not line.startswith(ROTATED)))
    stack.configure(AIRFLOW_EXECUTOR="CeleryExecutor", COMPOSE_PROFILES="celery")
    stack.run("make", "stack", "FIRST_NIGHT=no")
    assert set(stack.containers()) == SERVICES | {"celery-worker"}
    assert [name for name in ROTATED if stack.env()[name] == old[name]] == []
    assert env.stat().st_mode & 0o777 == 0o600
    assert kept(stack) == before


@pytest.mark.drill("stack", "all its data deleted", "a backup brings everything back; into a stack with data it is refused")
def test_backup_reset_and_restore_lose_nothing(stack: Stack, tmp_path: Path) -> None:
    before = kept(stack)
    copy = tmp_path / "backup"
    stack.run("docker/backup.sh", str(copy))
    assert copy.stat().st_mode & 0o777 == 0o700
    assert "Nothing was deleted" in stack.run("make", "stack-reset", given="yes\n", code=2)
    assert "has data" in stack.run("docker/restore.sh", str(copy), code=1)
    stack.run("make", "stack-reset", given=f"{PROJECT}\n")
    assert stack.run("docker", "volume", "ls", "--quiet", "--filter", f"name={PROJECT}") == ""
    stack.run("docker/restore.sh", str(copy))
    assert kept(stack) == before


def test_a_night_on_celery_workers(stack: Stack, digest: str) -> None:
    tasks = play(stack, "celery")
    host = stack.inside("celery-worker", "hostname").strip()
    # The outcome's tasks do nothing, so that no worker is asked.
    assert {task["hostname"] for task in tasks if task["task_id"] not in ("promoted", "rolling_out", "held")} == {host}
    assert stack.digest(DAY) == digest
