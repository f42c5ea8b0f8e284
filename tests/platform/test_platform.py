"""The embedded platform: clear refusals, and no process left on any way out."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from recsys.exceptions import ConflictError, InvalidInputError, MissingDataError, Stopped, UnavailableError
from recsys.platform import client, components, engine
from recsys.platform.ports import free_ports
from recsys.platform.processes import Processes, Recorded, end, read_state, sole_owner
from recsys.settings import Settings, load_settings
from recsys.simulate.world import generate
from tests.support import postgres


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("world") / "world"
    generate(directory, tracks=400, artists=60, users=50)
    return directory


@pytest.fixture
def environment(tmp_path: Path, world: Path) -> Iterator[dict[str, str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECSYS_", "AIRFLOW"))}
    yield kept | {"RECSYS_VAR": str(tmp_path / "var"), "RECSYS_WORLD": str(world), **own_ports()}
    postgres.forget(tmp_path / "var")


def own_ports() -> dict[str, str]:
    """Settings of a platform that runs beside others."""
    names = ("SERVICE", "REDIS", "AIRFLOW", "DATABASE")
    return {f"RECSYS_PORT_{name}": str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}


def platform(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "recsys.cli", "platform", command]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=900, check=False)


def processes_of(environment: dict[str, str]) -> list[str]:
    """Command lines of living processes that belong to this test's platform."""
    found = []
    marks = (environment["RECSYS_VAR"], f":{environment['RECSYS_PORT_REDIS']}", environment["RECSYS_PORT_AIRFLOW"])
    marks += (f"port={environment['RECSYS_PORT_DATABASE']}",)
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(mark in line for mark in marks):
            found.append(line)
    return found


@pytest.mark.real
@pytest.mark.parametrize("variable", ["RECSYS_PORT_SERVICE", "RECSYS_PORT_REDIS", "RECSYS_PORT_AIRFLOW", "RECSYS_PORT_DATABASE"])
@pytest.mark.parametrize("command", ["run", "up"])
def test_a_port_in_use_is_one_clear_line(command: str, variable: str, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(environment[variable]))):
        result = platform(command, environment)
    assert result.returncode == UnavailableError.exit_code
    lines = [line for line in result.stderr.splitlines() if line.startswith("recsys:")]
    assert len(lines) == 1
    assert environment[variable] in lines[0]
    assert variable in lines[0]
    assert "Traceback" not in result.stderr
    assert processes_of(environment) == []


@pytest.mark.real
def test_a_missing_world_is_one_clear_line(environment: dict[str, str], tmp_path: Path) -> None:
    result = platform("run", environment | {"RECSYS_WORLD": str(tmp_path / "nowhere")})
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("recsys:")]
    assert len(lines) == 1
    assert str(tmp_path / "nowhere") in lines[0]
    assert "Traceback" not in result.stderr
    assert "ready" not in result.stdout


@pytest.mark.drill("platform", "a part of it does not start", "what has been started ends")
@pytest.mark.real
def test_a_start_that_fails_half_way_leaves_nothing(environment: dict[str, str]) -> None:
    var = Path(environment["RECSYS_VAR"])
    (var / "airflow" / "airflow.db").mkdir(parents=True)
    result = platform("run", environment | {"RECSYS_AIRFLOW_DATABASE": "sqlite"})
    assert result.returncode == UnavailableError.exit_code
    assert "valkey is ready" in result.stdout
    assert f"the end of {var / 'log' / 'airflow-db.log'}" in result.stderr
    assert processes_of(environment) == []
    assert not (var / "platform.json").exists()


@pytest.mark.drill("platform", "a signal while it starts", "everything ends")
@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_starting_ends_everything(number: int, environment: dict[str, str]) -> None:
    words = [sys.executable, "-m", "recsys.cli", "platform", "run"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "valkey is ready" in process.stdout.readline()
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert processes_of(environment) == []


@pytest.mark.real
def test_runs_that_stand_in_sqlite_are_named_once_with_what_to_do(environment: dict[str, str]) -> None:
    earlier = Path(environment["RECSYS_VAR"]) / "airflow" / "airflow.db"
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"runs")
    (told,) = [line for line in said_until("postgres is ready", environment) if str(earlier) in line]
    assert "not carried over" in told
    assert "Nights, reports and what is live stay" in told
    assert "RECSYS_AIRFLOW_DATABASE=sqlite" in told
    assert earlier.read_bytes() == b"runs"
    assert not [line for line in said_until("postgres is ready", environment) if str(earlier) in line]


def said_until(words: str, environment: dict[str, str]) -> list[str]:
    """Lines of a platform that is stopped when it says the words."""
    command = [sys.executable, "-m", "recsys.cli", "platform", "run"]
    said: list[str] = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if words in line:
                process.send_signal(signal.SIGTERM)
                break
        process.communicate(timeout=60)
    assert processes_of(environment) == []
    return said


@pytest.mark.real
def test_airflow_s_command_line_needs_a_platform_and_backfills_need_postgresql(environment: dict[str, str]) -> None:
    words = [sys.executable, "-m", "recsys.cli", "platform", "airflow", "backfill", "create"]
    never = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert never.returncode == MissingDataError.exit_code
    assert f"no platform was ever set up in {environment['RECSYS_VAR']}" in never.stderr
    stamp = Path(environment["RECSYS_VAR"]) / "airflow" / "migrated"
    stamp.parent.mkdir(parents=True)
    stamp.touch()
    down = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert down.returncode == UnavailableError.exit_code
    assert f"127.0.0.1:{environment['RECSYS_PORT_DATABASE']}; start the platform" in down.stderr
    file = environment | {"RECSYS_AIRFLOW_DATABASE": "sqlite"}
    refused = subprocess.run(words, env=file, capture_output=True, text=True, check=False)
    assert refused.returncode == InvalidInputError.exit_code
    assert "backfills need PostgreSQL; unset RECSYS_AIRFLOW_DATABASE" in refused.stderr
    for result in (never, down, refused):
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


@pytest.mark.real
def test_everything_ends_though_nobody_reads_what_is_said(environment: dict[str, str]) -> None:
    words = [sys.executable, "-m", "recsys.cli", "platform", "run"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "valkey is ready" in process.stdout.readline()
        process.stdout.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert processes_of(environment) == []


@pytest.mark.drill("platform", "killed with all its parts running", "make down ends every part; nothing stays on a port")
@pytest.mark.real
def test_down_ends_what_a_killed_platform_left(environment: dict[str, str]) -> None:
    words = [sys.executable, "-m", "recsys.cli", "platform", "up"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert processes_of(environment)
    result = platform("down", environment)
    assert result.returncode == 0
    assert "valkey" in result.stdout
    assert processes_of(environment) == []
    assert "nothing was running" in platform("down", environment).stdout


class TestProcesses:
    @pytest.fixture
    def processes(self, tmp_path: Path) -> Iterator[Processes]:
        started = Processes(tmp_path)
        yield started
        started.stop()

    def test_a_whole_session_is_ended_even_without_its_leader(self, processes: Processes, tmp_path: Path) -> None:
        leader = processes.start("leader", ["sh", "-c", "sleep 300 & echo $!; exit 0"], dict(os.environ), tmp_path)
        leader.wait()
        orphan = int(processes.log_file("leader").read_text())
        assert psutil.pid_exists(orphan)
        processes.stop()
        assert not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE

    def test_a_failed_process_shows_the_end_of_its_log(self, processes: Processes, tmp_path: Path) -> None:
        processes.start("talker", ["sh", "-c", "seq 100; exit 3"], dict(os.environ), tmp_path).wait()
        with pytest.raises(UnavailableError, match="talker ended with status 3") as caught:
            processes.check()
        assert "  100" in str(caught.value)
        assert "  50\n" not in str(caught.value)

    def test_a_full_log_begins_anew_and_its_writer_goes_on(
        self, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("recsys.platform.processes.LOG_BYTES", 2000)
        words = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.001; done"]
        processes.start("talker", words, dict(os.environ), tmp_path)
        log = processes.log_file("talker")
        kept = log.with_suffix(".log.1")
        largest, turned = 0, 0
        deadline = time.monotonic() + 60
        while turned < 3 and time.monotonic() < deadline:
            largest = max(largest, log.stat().st_size)
            before = kept.stat().st_mtime_ns if kept.exists() else 0
            processes.turn_logs()
            turned += kept.exists() and kept.stat().st_mtime_ns != before
            time.sleep(0.01)
        assert turned == 3
        assert b"\0" not in log.read_bytes()
        last = int(kept.read_text().splitlines()[-1].split()[1])
        while not (text := log.read_text()).endswith("\n"):
            time.sleep(0.01)
        assert last < int(text.splitlines()[0].split()[1]) <= last + 20
        assert largest < 20_000

    def test_a_week_of_logs_is_kept_by_day(self, tmp_path: Path) -> None:
        days = [f"2026-11-{day:02}" for day in range(20, 30)]
        for day in (*days, "latest"):
            (tmp_path / day / "dags-folder").mkdir(parents=True)
        Processes.forget_days(tmp_path)
        Processes.forget_days(tmp_path / "nowhere")
        assert sorted(path.name for path in tmp_path.iterdir()) == [*days[-7:], "latest"]

    def test_state_names_living_processes(self, processes: Processes, tmp_path: Path) -> None:
        processes.start("sleeper", ["sleep", "300"], dict(os.environ), tmp_path)
        assert [r.name for r in read_state(tmp_path)] == ["platform", "sleeper"]
        processes.stop()
        assert read_state(tmp_path) == []

    def test_a_reused_process_id_is_left_alone(self, tmp_path: Path) -> None:
        with subprocess.Popen(["sleep", "300"], start_new_session=True) as stranger:
            (tmp_path / "platform.json").write_text(json.dumps([{"name": "valkey", "pid": stranger.pid, "started": 1.0}]))
            assert read_state(tmp_path) == []
            end([Recorded("valkey", stranger.pid, 1.0)])
            assert stranger.poll() is None
            stranger.kill()

    def test_sigkill_follows_sigterm(self, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("recsys.platform.processes.GRACE", 0.3)
        deaf = processes.start("deaf", ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], dict(os.environ), tmp_path)
        time.sleep(0.2)
        processes.stop()
        assert deaf.returncode == -signal.SIGKILL


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    with sole_owner(tmp_path), pytest.raises(ConflictError, match="another command runs"), sole_owner(tmp_path):
        pass


def test_a_signal_stops_an_owner_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def owned() -> None:
        with sole_owner(tmp_path) as ignore_signals:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                ignore_signals()
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        owned()
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_secrets_are_private_and_kept(tmp_path: Path) -> None:
    first = components.load_secrets(tmp_path)
    assert components.load_secrets(tmp_path) == first
    assert len(first.jwt_secret) >= 64
    for file in (tmp_path / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_children_get_absolute_paths_and_no_foreign_airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__METRICS__OTEL_ON", "True")
    settings = components.own_settings(Settings(var=Path("var"), world=Path("world")), "process")
    found = components.environment(settings, scheduled=False)
    assert found["RECSYS_VAR"] == str(tmp_path / "var")
    assert found["RECSYS_WORLD"] == str(tmp_path / "world")
    assert found["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert found["AIRFLOW__METRICS__OTEL_ON"] == "True"
    assert found["AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"] == "False"


def test_a_bad_option_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_PORT_AIRFLOW", "70000")
    with pytest.raises(InvalidInputError, match=r"\(RECSYS_PORT_AIRFLOW\) is '70000'"):
        load_settings()


class TestEngine:
    @pytest.fixture
    def docker(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A docker client that answers as the file beside it says: an engine cannot be made to fail on demand."""
        program = tmp_path / "docker"
        program.write_text('#!/bin/sh\ngrep -qx "$1" "$(dirname "$0")/answers" && echo found\n')
        program.chmod(0o755)
        (tmp_path / "answers").touch()
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return tmp_path / "answers"

    def test_no_engine_means_processes(self, docker: Path) -> None:
        choice = engine.choose(Settings())
        assert choice.simulation == "process"
        assert "no Docker engine answers" in choice.why

    def test_an_engine_without_the_image_means_processes(self, docker: Path) -> None:
        docker.write_text("info\n")
        choice = engine.choose(Settings())
        assert choice.simulation == "process"
        assert "make simulator-image" in choice.why

    def test_an_engine_with_the_image_means_containers(self, docker: Path) -> None:
        docker.write_text("info\nimage\n")
        assert engine.choose(Settings()).simulation == "docker"
        assert engine.choose(Settings(simulation="process")).simulation == "process"

    def test_demanded_containers_need_an_engine(self, docker: Path) -> None:
        with pytest.raises(InvalidInputError, match="no Docker engine answers"):
            engine.choose(Settings(simulation="docker"))


class _Busy(BaseHTTPRequestHandler):
    """An Airflow that hangs up on the first two requests of each kind."""

    def do_GET(self) -> None:
        asked = self.server.asked  # type: ignore[attr-defined]
        asked.append(self.command)
        if asked.count(self.command) > 2:
            body = b'{"access_token": "t"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    do_POST = do_PATCH = do_GET

    def log_message(self, *args: object) -> None:
        pass


def test_airflow_is_asked_again_unless_that_could_start_something_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSE", 0.0)
    server = HTTPServer(("127.0.0.1", 0), _Busy)
    asked = server.asked = []  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        airflow = client.AirflowClient(f"http://127.0.0.1:{server.server_port}", "admin", "secret")
        with pytest.raises(UnavailableError, match="does not answer"):
            airflow.trigger("night", "run", {})
        assert asked == ["POST"]
        asked += ["POST"]  # from here on it may log in
        assert airflow.run("night", "run")
        airflow.set_paused("night", True)
        assert asked[3:] == ["GET"] * 3 + ["PATCH"] * 3
    finally:
        server.shutdown()
        server.server_close()
