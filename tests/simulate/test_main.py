"""``python -m recsys.simulate`` as people and the night call it."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.schemas import ShardResult
from recsys.simulate.__main__ import main
from recsys.simulate.growth import Growth, grow
from recsys.simulate.progress import Progress
from tests.simulate.conftest import TRACKS, USERS, random_policy, serving

pytestmark = pytest.mark.slow


def result_of(output: str) -> ShardResult:
    return ShardResult(**json.loads(output.splitlines()[-1]))


def test_dummy(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recommender", "dummy", "--world", str(world), "--episodes", "300", "--seed", "4"]
    assert main(words) == 0
    output = capsys.readouterr().out
    result = result_of(output)
    assert result.episodes == result.last == 300
    assert f"300 episodes: session time {result.mean_time:.3f} +- " in output
    assert main(words) == 0
    assert result_of(capsys.readouterr().out) == result
    assert main([*words[:-1], "5"]) == 0
    assert result_of(capsys.readouterr().out) != result


def test_the_first_so_many_of_a_world_that_has_grown(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grown = shutil.copytree(world, tmp_path / "grown")
    grow(grown, Growth(users=40, tracks=60, retire=5), seed=1)
    words = ["--recommender", "dummy", "--episodes", "200", "--seed", "4", "--world"]
    found = []
    for more in ([str(world)], [str(grown), "--listeners", str(USERS), "--tracks", str(TRACKS)], [str(grown)]):
        assert main([*words, *more]) == 0
        found.append(replace(result_of(capsys.readouterr().out), seconds=0))
    assert found[0] == found[1] != found[2]
    with pytest.raises(SystemExit):
        main([*words, str(grown), "--tracks", "-1"])
    assert "'-1' is not a whole number from 0 to 2147483647" in capsys.readouterr().err


def test_remote_with_run_and_token(world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "secret")
    with serving(random_policy) as server:
        words = ["--world", str(world), "--service-url", server.url, "--episodes", "40", "--run", "r.1.x", "--shard", "1"]
        assert main([*words, "--shards", "2", "--batch", "4", "--token-env", "SOME_TOKEN"]) == 0
    assert {h["Authorization"] for h in server.headers} == {"Bearer secret"}
    output = capsys.readouterr()
    result = result_of(output.out)
    assert (result.run, result.shard) == ("r.1.x", 1)
    assert "secret" not in output.out + output.err


def test_address_and_files_from_the_original_config(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    with serving(random_policy) as server:
        text = (world / "env.yml").read_text().replace("tracks.", f"{world}/tracks.").replace("users.", f"{world}/users.")
        (tmp_path / "config" / "env.yml").write_text(text.replace("5000", server.url.rsplit(":", 1)[1]))
        monkeypatch.chdir(tmp_path)
        assert main(["--episodes", "20", "--recommender", "remote", "--config", "config/env.yml", "--seed", "31337"]) == 0
        assert main(["--episodes", "20"]) == 0, "config/env.yml is the default"
    assert capsys.readouterr().out.count("20 episodes") == 2


def test_console_reads_lines(world: Path) -> None:
    words = [sys.executable, "-m", "recsys.simulate", "--recommender", "console", "--world", str(world), "--episodes", "3"]
    lines = "x\n1000\n" + "5\n" * 8
    done = subprocess.run(words, input=lines, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "'x' is no track" in done.stderr
    assert "'1000' is no track" in done.stderr
    assert "Next track (0 to 119)" in done.stderr
    assert "and left after" in done.stderr
    result = result_of(done.stdout)
    assert 1 <= result.episodes < 3, "the input ended early"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--world", "/nowhere"], 2, "simulate: world '/nowhere' is not a directory"),
        (["--config", "/nowhere.yml"], 2, "simulate: environment /nowhere.yml cannot be read"),
        (["--episodes", "0"], 2, "simulate: episodes is 0"),
        (["--recommender", "dummy", "--shards", "2", "--shard", "2"], 2, "simulate: shard is 2"),
        (["--tracks", "121"], 2, "simulate: tracks is 121, but"),
        (["--listeners", "24"], 2, "simulate: listeners is 24, but"),
        (["--token-env", "NOT_THERE"], 2, "environment variable NOT_THERE"),
        (["--service-url", "ftp://x"], 2, "setting service_url (RECSYS_SERVICE_URL) is 'ftp://x'"),
    ],
)
def test_errors_are_one_line(world: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = words if "--config" in words or "--world" in words else ["--world", str(world), *words]
    assert main(given) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1


def test_a_service_error_has_its_own_status(world: Path) -> None:
    with serving(random_policy) as server:
        server.faults = [(404, {}, b"{}")]
        assert main(["--world", str(world), "--service-url", server.url, "--episodes", "5", "--in-flight", "1"]) == 7


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(world: Path, signal_number: int) -> None:
    with serving(random_policy) as server:
        server.answer = lambda *request: server.headers.append({}) or (503, {}, b"")
        words = [sys.executable, "-m", "recsys.simulate", "--world", str(world), "--service-url", server.url]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while not server.headers and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal_number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + signal_number
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("simulate: ")


@pytest.mark.drill("simulation", "Ctrl-C while a shard starts", "it ends without a traceback")
def test_ctrl_c_while_it_imports_leaves_no_traceback(world: Path) -> None:
    words = [sys.executable, "-v", "-m", "recsys.simulate", "--world", str(world), "--service-url", "http://127.0.0.1:1"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = next(line for line in process.stderr if line.startswith("import 'argparse'"))
        process.send_signal(signal.SIGINT)
        told += process.stderr.read()
        assert process.wait(20) == -signal.SIGINT
    assert "Traceback" not in told


def test_no_training_or_service_module_is_loaded(world: Path) -> None:
    code = (
        "import sys; from recsys.simulate.__main__ import main; main(sys.argv[1:]); "
        "bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'pandas', 'scipy', 'redis', 'ibis') "
        "or m.startswith(('recsys.service', 'recsys.models', 'recsys.night.train', 'recsys.simulate.world'))]; print(bad)"
    )
    words = [sys.executable, "-c", code, "--recommender", "dummy", "--world", str(world), "--episodes", "5"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_progress_lines_are_few(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("recsys.simulate.progress.time.monotonic", lambda: next(clock) / 2)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    caplog.set_level("INFO")
    progress = Progress(1000)
    for ended in range(1, 1001):
        progress.update(ended)
    progress.close()
    assert 2 <= len(caplog.records) <= 21
    assert caplog.records[-1].getMessage().startswith("1000 of 1000 episodes (100 %)")
