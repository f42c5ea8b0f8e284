"""Service and simulator together, for real: same seed, same logs, whatever the sharding, the batching and the accidents."""

import http.client
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import psutil
import pytest

from recsys.experiments import Arm, Experiment, RunSpec
from recsys.inspection.verify import log_digest
from recsys.logs.upload import count_events
from recsys.platform.processes import read_state
from recsys.schemas import ShardResult
from recsys.settings import load_settings
from recsys.simulate.world import generate
from recsys.versions import keyspace, publish
from recsys.versions.content import Content
from recsys.versions.runs import open_run
from tests.support.components import Service, Valkey, free_port, running

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

TRACKS, USERS, EPISODES = 2000, 300, 600


class Ground:
    """A world, a Valkey with a published version and an open run, and a log directory."""

    def __init__(self, directory: Path, valkey: Valkey) -> None:
        self.directory, self.valkey, self.world, self.logs = directory, valkey, directory / "world", directory / "logs"
        generate(self.world, tracks=TRACKS, artists=400, users=USERS, seed=5)
        self.client = keyspace.connect(load_settings(redis_url=valkey.url))
        lists = {u: keyspace.pack([(u * 7 + 13 * k) % TRACKS for k in range(50)]) for u in range(USERS)}
        rows = keyspace.pack([(t + k + 1) % TRACKS for t in range(TRACKS) for k in range(20)])
        version = publish.publish_version(self.client, Content(lists, keyspace.pack(range(100)), rows), date(2026, 1, 2))
        arms = (Arm("C", "contextual", version), Arm("T1", "dae", version))
        open_run(self.client, RunSpec("night", version, 0.1, 7, Experiment("E", arms, "s"), TRACKS))

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "RECSYS_WORLD": str(self.world), "RECSYS_REDIS_URL": self.valkey.url, "RECSYS_SERVICE_LOGS": str(self.logs), **more,
        }  # fmt: skip

    def command(self, service: Service, name: str, shard: int, shards: int, batch: int, episodes: int = EPISODES) -> list[str]:
        return [
            sys.executable, "-m", "recsys.simulate", "--recommender", "remote", "--world", str(self.world),
            "--service-url", service.url, "--run", f"night.{shard}.{name}", "--shard", str(shard), "--shards", str(shards),
            "--batch", str(batch), "--episodes", str(episodes), "--seed", "11",
        ]  # fmt: skip

    def play(self, service: Service, name: str, shards: int, batch: int, episodes: int = EPISODES) -> list[ShardResult]:
        """Play a run; the logs of all its shards stand in one directory afterwards."""
        commands = [self.command(service, name, shard, shards, batch, episodes) for shard in range(shards)]
        processes = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
        results = []
        for process in processes:
            output, errors = process.communicate(timeout=900)
            assert process.returncode == 0, errors
            results.append(ShardResult(**json.loads(output.strip().splitlines()[-1])))
        return results

    def gathered(self, name: str, shards: int) -> Path:
        """All log files of a run in one directory."""
        target = self.directory / "gathered" / name
        target.mkdir(parents=True)
        for shard in range(shards):
            for path in (self.logs / f"night.{shard}.{name}").glob("*.jsonl"):
                (target / f"{shard}-{path.name}").write_bytes(path.read_bytes())
        return target


@contextmanager
def ground_at(directory: Path) -> Iterator[Ground]:
    with running(Valkey(directory)) as valkey:
        yield Ground(directory, valkey)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with ground_at(tmp_path_factory.mktemp("ground")) as ground:
        yield ground


@pytest.fixture(scope="module")
def undisturbed(ground: Ground) -> str:
    """The digest of the run that nothing disturbs: one shard, one worker, single requests."""
    with running(Service(ground.environment())) as service:
        result = ground.play(service, "plain", 1, 0)[0]
    gathered = ground.gathered("plain", 1)
    counts = count_events(sorted(gathered.glob("*.jsonl")))
    assert (counts["next"], counts["last"]) == (result.next, EPISODES)
    assert (counts["repeated"], counts["malformed"]) == (0, 0)
    return log_digest(gathered)


@pytest.mark.parametrize("workers", [1, 3])
def test_same_seed_same_logs(ground: Ground, undisturbed: str, workers: int) -> None:
    with running(Service(ground.environment(), workers=workers)) as service:
        for shards, batch in ((1, 0), (1, 1), (2, 64), (5, 0), (2, 1024)):
            name = f"w{workers}s{shards}b{batch}"
            ground.play(service, name, shards, batch)
            assert log_digest(ground.gathered(name, shards)) == undisturbed, name


def disturb(ground: Ground, name: str, service: Service, accident: threading.Thread, episodes: int) -> Path:
    """Play while an accident happens."""
    accident.start()
    result = ground.play(service, name, 1, 0, episodes)[0]
    accident.join()
    gathered = ground.gathered(name, 1)
    counts = count_events(sorted(gathered.glob("*.jsonl")))
    assert (counts["next"], counts["last"]) == (result.next, result.last)
    return gathered


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended may have to wait until somebody takes note of it."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def worker_of(service: Service) -> psutil.Process:
    """A living worker process of the service; one that has just been killed is replaced within a second or two."""
    assert service.process is not None
    deadline = time.monotonic() + 20
    while True:
        for child in filter(is_alive, psutil.Process(service.process.pid).children()):
            return child
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.marathon
@pytest.mark.drill(
    "service",
    "workers, then all of it, killed during 20,000 sessions",
    "listeners wait and go on; the logs hold every answer once",
)
def test_killed_workers_and_a_killed_service_lose_no_answered_request(ground: Ground) -> None:
    episodes = 20_000
    with running(Service(ground.environment(), workers=2)) as service:
        ground.play(service, "calm", 2, 256, episodes)
        expected = log_digest(ground.gathered("calm", 2))

        def kill_workers_then_all() -> None:
            for _ in range(3):
                time.sleep(2)
                worker_of(service).send_signal(signal.SIGKILL)
            time.sleep(4)
            service.kill()
            service.start()

        gathered = disturb(ground, "killed", service, threading.Thread(target=kill_workers_then_all), episodes)
        assert log_digest(gathered) == expected


@pytest.mark.drill("Redis", "restarted during a simulation", "listeners wait; the logs of an undisturbed run")
def test_previews_wait_for_redis(ground: Ground) -> None:
    episodes = 3000
    with running(Service(ground.environment())) as service:
        ground.play(service, "redis-calm", 1, 0, episodes)
        expected = log_digest(ground.gathered("redis-calm", 1))

        def restart_redis() -> None:
            time.sleep(0.5)
            assert ground.valkey.process is not None
            ground.valkey.process.terminate()  # an orderly end writes everything down
            ground.valkey.process.wait()
            time.sleep(2)
            ground.valkey.start()

        gathered = disturb(ground, "redis", service, threading.Thread(target=restart_redis), episodes)
        assert log_digest(gathered) == expected


@pytest.mark.drill(
    "Redis",
    "killed for ten seconds under live load",
    "live answers go on, degraded; previews get 503; whole 2 s after",
)
def test_an_outage_of_ten_seconds_under_load(ground: Ground) -> None:
    """Live requests go on, marked as degraded; previews are told to wait; two seconds after Redis is back all is whole."""
    answers: list[tuple[float, int, int]] = []
    previews: list[tuple[float, int, str | None]] = []
    over = threading.Event()

    def listen(number: int, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for i in itertools.count():
            if over.is_set():
                return
            body = json.dumps({"track": i % TRACKS, "time": 0.5, "event": f"out-{number}-{i}"})
            connection.request("POST", f"/next/{100 + number}", body)
            answer = connection.getresponse()
            answers.append((time.time(), answer.status, json.loads(answer.read()).get("track", -1)))

    def preview(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while not over.is_set():
            connection.request("POST", "/next/7", json.dumps({"track": 1, "time": 0.5}), {"X-Recsys-Run": "night.0.outage"})
            answer = connection.getresponse()
            answer.read()
            previews.append((time.time(), answer.status, answer.getheader("Retry-After")))
            time.sleep(0.02)

    with running(Service(ground.environment())) as service:
        threads = [threading.Thread(target=listen, args=(n, service.port)) for n in range(8)]
        threads.append(threading.Thread(target=preview, args=(service.port,)))
        for thread in threads:
            thread.start()
        try:
            time.sleep(1)
            down = time.time()
            ground.valkey.kill()
            time.sleep(10)
            starting = time.time()
            ground.valkey.start()
            back = time.time()
            time.sleep(4)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert {status for _, status, _ in answers} == {200}
    assert all(0 <= track < TRACKS for _, _, track in answers)
    assert {status for when, status, _ in previews if down + 1.5 < when < starting} == {503}
    assert {retry for _, status, retry in previews if status == 503} == {"1"}
    assert {status for when, status, _ in previews if when < down or when > back + 2} == {200}
    files = sorted((ground.logs / "live").glob("*.jsonl"))
    lines = [record for path in files for record in map(json.loads, path.read_text().splitlines())]
    lines = [record for record in lines if (record["event"] or "").startswith("out-")]
    assert len(lines) == len(answers)
    degraded = {True: [], False: []}
    for record in lines:
        degraded[record["degraded"]].append(record["timestamp"] / 1000)
    assert min(degraded[True]) >= down - 0.01
    assert max(degraded[True]) <= back + 2
    assert sum(down + 1.5 < when < back for when in degraded[True]) > 100
    assert not any(down + 1.5 < when < starting for when in degraded[False])
    assert any(when > back + 2 for when in degraded[False])


def test_a_guarded_service_wants_its_token(ground: Ground) -> None:
    environment = ground.environment(RECSYS_SERVICE_TOKEN="token-of-the-test")
    with running(Service(environment)) as service:
        body = {"track": 1, "time": 1.0}
        assert service.post("/next/1", body)[0] == 200
        assert service.post("/next/1", body, **{"X-Recsys-Run": "night.0.t"})[0] == 401
        assert service.post("/batch", {"events": []})[0] == 401
        assert service.post("/batch", {"events": []}, Authorization="Bearer wrong")[0] == 401
        assert service.post("/batch", {"events": []}, Authorization="Bearer token-of-the-test")[0] == 200
        assert (
            service.post("/next/1", body, **{"X-Recsys-Run": "night.0.t", "Authorization": "Bearer token-of-the-test"})[0] == 200
        )


def test_a_redis_with_a_password(tmp_path: Path) -> None:
    with running(Valkey(tmp_path, ("--requirepass", "word"))) as valkey:
        open_url = valkey.url
        guarded = f"redis://:word@127.0.0.1:{valkey.port}/0"
        generate(tmp_path / "world", tracks=300, artists=50, users=20, seed=1)
        environment = {"RECSYS_WORLD": str(tmp_path / "world"), "RECSYS_SERVICE_LOGS": str(tmp_path / "logs")}
        with running(Service({**environment, "RECSYS_REDIS_URL": guarded})) as service:
            assert service.post("/next/1", {"track": 1, "time": 1.0})[0] == 200
        words = [sys.executable, "-m", "recsys.cli", "serve"]
        env = {**os.environ, **environment, "RECSYS_REDIS_URL": open_url}
        refused = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert refused.returncode == 5
        assert "does not answer" in refused.stderr


@pytest.mark.drill("Redis", "out of memory, then stopped", "live answers are degraded, previews get 503 until it is back")
def test_redis_out_of_memory_and_a_slow_redis_degrade_live(ground: Ground) -> None:
    body = {"track": 1, "time": 1.0}
    with running(Service(ground.environment())) as service:
        ground.client.config_set("maxmemory", "1mb")
        status, _ = service.post("/next/7", body)
        assert status == 200
        assert service.post("/next/7", body, **{"X-Recsys-Run": "night.0.oom"})[0] == 503
        ground.client.config_set("maxmemory", "0")
        assert service.post("/next/7", body, **{"X-Recsys-Run": "night.0.oom"})[0] == 200
        assert ground.valkey.process is not None
        ground.valkey.process.send_signal(signal.SIGSTOP)
        try:
            assert service.post("/next/7", body)[0] == 200
        finally:
            ground.valkey.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + 5
        while service.get("/readyz")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert service.post("/next/7", body, **{"X-Recsys-Run": "night.0.slow"})[0] == 200
    lines = [json.loads(line) for p in (ground.logs / "live").glob("*.jsonl") for line in p.read_text().splitlines()]
    assert [r["degraded"] for r in lines if r["user"] == 7] == [True, True]


@pytest.mark.drill("disk of the service", "full while it answers", "503, no answer without its line; whole lines only")
def test_a_full_log_answers_503_and_leaves_whole_lines(ground: Ground) -> None:
    """A file size limit is the full disk that a test can have without mounting one."""
    body = {"track": 1, "time": 1.0}
    header = {"X-Recsys-Run": "night.0.full"}
    service = Service(ground.environment())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with running(service):
        assert service.process is not None
        (worker,) = psutil.Process(service.process.pid).children()
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (2000, hard))
        statuses = [service.post("/next/9", {**body, "event": f"0.{i}"}, **header)[0] for i in range(12)]
        assert statuses[0] == 200
        assert statuses[-1] == 503
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert service.post("/next/9", {**body, "event": "0.11"}, **header)[0] == 200
    counts = count_events(sorted((ground.logs / "night.0.full").glob("*.jsonl")))
    assert counts["malformed"] == 0
    assert counts["next"] == statuses.count(200) + 1


def test_sigterm_finishes_what_was_asked(ground: Ground) -> None:
    service = Service(ground.environment())
    with running(service):
        outcomes: list[int] = []

        def ask() -> None:
            for i in range(2000):
                try:
                    outcomes.append(service.post("/next/11", {"track": 1, "time": 1.0, "event": f"t{i}"})[0])
                except OSError:
                    return

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.3)
        service.kill(signal.SIGTERM)
        asking.join()
    assert set(outcomes) == {200}
    files = sorted((ground.logs / "live").glob("*.jsonl"))
    answered = {json.loads(line)["event"] for path in files for line in path.read_text().splitlines()}
    assert {f"t{i}" for i in range(len(outcomes))} <= answered


def parts_of(process: subprocess.Popen[bytes], count: int) -> list[psutil.Process]:
    """Children of a command once there are as many."""
    deadline = time.monotonic() + 30
    while len(found := psutil.Process(process.pid).children()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_an_embedded_service_takes_its_valkey_with_it(ground: Ground, tmp_path: Path) -> None:
    port = free_port()
    words = [sys.executable, "-m", "recsys.cli", "serve", "--embedded", "--port", str(port)]
    environment = os.environ | {"RECSYS_WORLD": str(ground.world), "RECSYS_VAR": str(tmp_path)}
    with subprocess.Popen(words, env=environment) as process:
        (server,) = parts_of(process, 1)
        service, deadline = Service({}, port=port), time.monotonic() + 30
        while True:
            try:
                assert service.get("/readyz")[0] == 200
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
    assert not is_alive(server)


@contextmanager
def traffic_of_its_own(ground: Ground, var: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Traffic that takes minutes, with a Valkey and a service of its own, for as long as the block lasts."""
    words = [sys.executable, "-m", "recsys.cli", "traffic", "--date", "2026-01-02", "--sessions", "900000", "--embedded"]
    process = subprocess.Popen(words, env=os.environ | {"RECSYS_WORLD": str(ground.world), "RECSYS_VAR": str(var)})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.drill("platform", "a signal to a command with a Valkey and a service of its own", "both end with it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_with_its_parts(ground: Ground, tmp_path: Path, number: signal.Signals) -> None:
    with traffic_of_its_own(ground, tmp_path) as process:
        # Valkey, the service, and a simulator.
        parts = parts_of(process, 3)
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert not any(map(is_alive, parts))
    assert read_state(tmp_path) == []


@pytest.mark.drill("platform", "a command with a Valkey and a service of its own killed", "the next one ends both first")
def test_what_a_killed_command_leaves_is_ended_by_the_next(ground: Ground, tmp_path: Path) -> None:
    with traffic_of_its_own(ground, tmp_path) as process:
        deadline = time.monotonic() + 30
        while {part.name for part in read_state(tmp_path)} != {"platform", "valkey", "service"}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parts = parts_of(process, 2)[:2]
        process.kill()
    assert all(map(is_alive, parts))
    words = [sys.executable, "-m", "recsys.cli", "traffic", "--date", "2026-01-02", "--sessions", "50", "--embedded"]
    environment = os.environ | {"RECSYS_WORLD": str(ground.world), "RECSYS_VAR": str(tmp_path)}
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "What ran here was killed; ending valkey, service" in answer.stderr
    assert "2026-01-02: 50 sessions" in answer.stdout
    assert not any(map(is_alive, parts))
