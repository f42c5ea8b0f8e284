"""The benchmarks: their arithmetic, their command line, and that the reference does what the original did."""

import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import requests

from benchmarks import growth, newcomers, off_policy, own_data, processes, real_data, rollout, watching
from benchmarks.__main__ import ALTERNATIVES, MEASURES, main
from benchmarks.alternatives import measures, offline
from benchmarks.alternatives.client import Aiohttp
from benchmarks.content import DAY, open_run, prepare
from benchmarks.histories import explored_history, random_history
from benchmarks.load import drive
from benchmarks.measure import Bench, less_is_better, milliseconds, more_is_better, surroundings, write_json
from benchmarks.public import __main__ as public
from benchmarks.public.job import read_split, write_split
from benchmarks.reference import autoencoder, pipeline, simulator
from benchmarks.rows import DESIGN, TRACKS, log_rows
from recsys.abtest.sessions import read_log
from recsys.exceptions import InvalidInputError, UnavailableError
from recsys.learn.held_out import split
from recsys.models.dae import WEIGHTS, Dae
from recsys.night.collect import collect
from recsys.night.night import Night
from recsys.settings import load_settings
from recsys.simulate.listeners import load_listeners
from recsys.simulate.recommenders import DummyRecommender
from recsys.simulate.run import run_in_process, run_shard
from recsys.simulate.world import generate
from recsys.storage.store import Storage
from tests.support.imports import LASTFM, imported, needs_lastfm, plays
from tests.support.tracks import tracks_of, write_tracks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("bench")
    generate(root / "world", tracks=600, artists=120, users=80)
    (root / "scratch").mkdir()
    (root / "cache").mkdir()
    return Bench(root / "world", True, root / "scratch", root / "cache")


def test_a_ratio_above_one_means_ours_is_better() -> None:
    assert more_is_better("a", "requests/s", 200.0, 10.0).ratio == 20
    assert less_is_better("b", "seconds", 2.0, 10.0).ratio == 5


def test_quantiles_of_durations() -> None:
    durations = [n / 1000 for n in range(100)]
    assert milliseconds(durations, 0.5) == 50
    assert milliseconds(durations, 0.99) == 99
    assert milliseconds([0.002], 0.99) == 2


def test_one_result_is_an_object_and_several_are_a_list(tmp_path: Path) -> None:
    result = more_is_better("a", "requests/s", 3.0, 2.0, {"p50_ms": 1.0})
    write_json(tmp_path / "deep" / "one.json", [result])
    expected = {"name": "a", "unit": "requests/s", "ours": 3.0, "reference": 2.0, "ratio": 1.5, "detail": {"p50_ms": 1.0}}
    assert json.loads((tmp_path / "deep" / "one.json").read_text()) == expected
    write_json(tmp_path / "two.json", [result, result])
    assert json.loads((tmp_path / "two.json").read_text()) == [expected, expected]


def test_an_unknown_measure_is_refused_with_the_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["speed"])
    error = capsys.readouterr().err
    assert all(name in error for name in (*MEASURES, *ALTERNATIVES))
    assert all(callable(getattr(measures, f"measure_{name}")) for name in ALTERNATIVES)


def test_an_unknown_part_of_newcomers_is_refused_with_the_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        newcomers.main(["speed"])
    assert "'speed' is no part; there are rate, sessions, memory" in capsys.readouterr().err


def test_a_directory_without_a_world_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_VAR", str(tmp_path))
    with pytest.raises(InvalidInputError, match=r"users\.json"), surroundings(tmp_path, quick=True):
        pass


def test_the_reference_simulator_plays_as_ours_does(bench: Bench) -> None:
    world = simulator.World(bench.world, 7)
    sessions = list(itertools.islice(simulator.play(world, simulator.DummyRecommender(600)), 3000))
    listeners = load_listeners(bench.world)
    ours = run_in_process(listeners, DummyRecommender(600, 7), episodes=20_000, seed=7, progress=False)
    assert np.mean([steps for _, steps in sessions]) == pytest.approx(ours.mean_steps, rel=0.05)
    assert np.mean([time for time, _ in sessions]) == pytest.approx(ours.mean_time, rel=0.1)
    again = list(itertools.islice(simulator.play(simulator.World(bench.world, 7), simulator.DummyRecommender(600)), 50))
    assert again == sessions[:50]


@pytest.mark.real
def test_the_reference_service_never_repeats_and_forgets_after_last(bench: Bench) -> None:
    files, port = prepare(bench), processes.free_port()
    lists = [json.loads(line) for line in (files / "recommendations.json").read_text().splitlines()]
    with processes.valkey(bench.scratch, port=port), processes.reference_service(bench.scratch, files, port) as (url, _):
        answers = {}
        for user in (0, 1, 2, 3):
            for round_ in range(2):
                track, played = 599, []
                for _ in range(30):
                    track = requests.post(f"{url}/next/{user}", json={"track": track, "time": 0.5}, timeout=5).json()["track"]
                    played.append(track)
                assert len(set(played)) == 30
                answers[user, round_] = played
                assert requests.post(f"{url}/last/{user}", json={"track": track, "time": 0.5}, timeout=5).json() == {"user": user}
        listed = [user for user in range(4) if answers[user, 0] == [t for t in lists[user]["tracks"] if t != 599][:30]]
        assert listed == [user for user in range(4) if DESIGN.arm_of(user).name == "T1"]
        assert all(answers[user, 0] == answers[user, 1] for user in listed)
        load = drive(url, 4, 0.5, 80, 600)
        assert load.errors == 0
        assert load.rate > 0
    lines = [json.loads(line) for path in bench.scratch.glob("reference-*.json") for line in path.read_text().splitlines()]
    assert [line["message"] for line in lines[:31]] == ["next"] * 30 + ["last"]


@pytest.mark.real
def test_the_load_generator_drives_our_service(bench: Bench) -> None:
    with processes.valkey(bench.scratch, durable=True) as redis_url:
        run = open_run(bench, prepare(bench), redis_url)
        with processes.nightshift(bench.scratch, bench.world, redis_url) as (url, seconds):
            load = drive(url, 4, 0.5, 20, 600, run, 50)
    assert seconds > 0
    assert load.errors == 0
    lines = [line for path in bench.scratch.rglob(f"{run}/*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == len(load.durations)
    assert {json.loads(line)["user"] for line in lines} == set(range(50, 70))


@pytest.mark.real
def test_the_alternative_service_never_repeats_and_forgets_after_last(bench: Bench) -> None:
    files = prepare(bench)
    lists = [json.loads(line) for line in (files / "recommendations.json").read_text().splitlines()]
    with processes.valkey(bench.scratch) as redis_url, measures.fastapi_service(bench.scratch, files, redis_url) as (url, _):
        for user in (0, 1, 2, 3):
            for _ in range(2):
                track, played = 599, []
                for _ in range(30):
                    track = requests.post(f"{url}/next/{user}", json={"track": track, "time": 0.5}, timeout=5).json()["track"]
                    played.append(track)
                assert len(set(played)) == 30
                if DESIGN.arm_of(user).name == "T1":
                    assert played == [t for t in lists[user]["tracks"] if t != 599][:30]
                assert requests.post(f"{url}/last/{user}", json={"track": track, "time": 0.5}, timeout=5).json() == {"user": user}
        assert requests.post(f"{url}/next/1", json={"track": 1, "time": 2}, timeout=5).status_code == 422
        assert drive(url, 4, 0.5, 80, 600).errors == 0
    (log,) = bench.scratch.glob("fastapi-*.jsonl")
    assert [json.loads(line)["message"] for line in log.read_text().splitlines()[:31]] == ["next"] * 30 + ["last"]


@pytest.mark.real
def test_the_alternative_client_plays_the_same_sessions(bench: Bench) -> None:
    with processes.valkey(bench.scratch) as redis_url:
        run = open_run(bench, prepare(bench), redis_url)
        with processes.nightshift(bench.scratch, bench.world, redis_url) as (url, _):
            asking = Aiohttp(url, f"{run}-other", 8)
            theirs = run_in_process(load_listeners(bench.world), asking, episodes=60, seed=3, slots=8, progress=False)
            asking.close()
            ours = run_shard(bench.world, url, episodes=60, seed=3, run=f"{run}-ours", progress=False)
    assert (ours.next, ours.last, ours.mean_time) == (theirs.next, theirs.last, theirs.mean_time)


def test_plain_sql_collects_what_collection_does(bench: Bench, tmp_path: Path) -> None:
    files = log_rows(bench, 4000)
    (tmp_path / "out").mkdir()
    offline.collect(files / "ours", tmp_path / "out")
    store = Storage(f"file://{tmp_path / 'storage'}")
    with store.stage(f"logs/date={DAY}") as staging:
        shutil.copy(files / "ours" / "0-bench.jsonl", staging)
    (tmp_path / "world").mkdir()
    write_tracks(tmp_path / "world", tracks_of(TRACKS))
    collect(Night(DAY, load_settings(storage=store.url, world=tmp_path / "world")))
    ours = store.local(f"interactions/date={DAY}")
    for name, columns in {
        "interactions": ["user", "track"],
        "sessions": ["user", "run", "session", "steps", "time", "first_track"],
        "plays": ["user", "run", "session", "step", "track", "recommendation", "propensity"],
    }.items():
        theirs = pq.read_table(tmp_path / "out" / f"{name}.parquet", columns=columns).to_pylist()
        assert theirs == pq.read_table(ours / f"{name}.parquet", columns=columns).to_pylist(), name


@pytest.mark.slow
def test_dense_scores_give_the_models_own_lists(tmp_path: Path) -> None:
    history = random_history(120, 300, 40)
    model = Dae(layers=(16,), epochs=1)
    model.fit(history, seed=1, work=tmp_path / "work")
    model.save(tmp_path)
    found = offline.dense_lists(tmp_path / WEIGHTS, history, np.arange(120), tmp_path / "lists.json", 10)
    assert (found == model.best(history, 10)[0]).mean() > 0.99
    assert len((tmp_path / "lists.json").read_text().splitlines()) == 120


def test_both_sides_read_the_same_sessions_from_the_rows(bench: Bench, tmp_path: Path) -> None:
    files = log_rows(bench, 4000)
    rows = pipeline.read_rows(files / "original.json")
    sessions = pipeline.sessions_of(rows)
    ours = read_log(files / "ours", DESIGN.name, DESIGN)
    assert len(sessions) == ours.counts["sessions"]
    assert sessions["tracks"].sum() == len(rows) == ours.sessions["steps"].sum()
    assert sessions["time"].sum() == pytest.approx(ours.sessions["time"].sum())
    effects = pipeline.analyse(files / "original.json", DESIGN.name, "C", tmp_path)
    assert list(effects["metric"]) == list(pipeline.METRICS)
    assert (effects["low"] < effects["effect"]).all()
    assert effects["p_value"].between(0, 1).all()
    pipeline.collect(files / "original.json", tmp_path)
    positives = (tmp_path / "interactions.csv").read_text().splitlines()[1:]
    assert (
        len(positives) == len(set(positives)) == len({tuple(r) for r in rows[rows["time"] > 0.8][["user", "track"]].to_numpy()})
    )


def test_histories_hold_what_listeners_liked(bench: Bench) -> None:
    history = explored_history(bench.world, 2000)
    assert history.shape == (80, 600)
    data = split(history, 1)
    held_out_users = np.flatnonzero((np.diff(data.train.indptr) == 0) & (np.diff(history.indptr) > 0))
    assert len(held_out_users) == data.fold_in.shape[0] == len(data.held_out) == 8
    for number, hidden in enumerate(data.held_out):
        assert not set(hidden) & set(data.fold_in[number].indices)
    assert np.diff(random_history(50, 300, 40).indptr).mean() > 30


def test_the_reference_autoencoder_learns(tmp_path: Path) -> None:
    history = random_history(64, 40, 4).tolil()
    history[:32, 20:] = 0
    history[32:, :20] = 0
    history = history.tocsr()
    training = autoencoder.Training(history, 1)
    for _ in range(60):
        training.epoch()
    scores = autoencoder.score(training.model, history)
    assert scores[:32, :20].mean() > scores[:32, 20:].mean() + 1
    weights, positives = tmp_path / "weights.pt", tmp_path / "positives.csv"
    autoencoder.save(training.model, weights, history, np.arange(64), positives)
    autoencoder.recommend(weights, positives, np.arange(64), 40, tmp_path / "lists.json", 5)
    lists = [json.loads(line) for line in (tmp_path / "lists.json").read_text().splitlines()]
    assert lists[0]["tracks"] == np.argsort(-scores[0])[:5].tolist()


def test_a_step_that_grows_beyond_its_bounds_is_stopped_and_told(tmp_path: Path) -> None:
    size = growth.Size(tracks=300, users=20, sessions=10)
    environment = {**os.environ, "RECSYS_VAR": str(tmp_path), "RECSYS_WORLD": str(tmp_path / "world")}
    done = growth.bounded("world", size, environment, growth.Bounds(8, 120))
    assert not isinstance(done, str)
    assert 0 < done[1] < 8
    assert (tmp_path / "world" / "users.json").exists()
    slow = growth.bounded("traffic", size, environment, growth.Bounds(8, 0.1))
    large = growth.bounded("traffic", size, environment, growth.Bounds(0.01, 120))
    assert (slow, large) == ("stopped: more than 0.1 s", "stopped: more than 0.01 GiB")
    failed = growth.bounded("collect", size, {**environment, "RECSYS_REDIS_URL": "redis://127.0.0.1:9/0"}, growth.Bounds(8, 120))
    assert "does not answer" in failed
    told = growth.table({"usual": {"world": done}, "users x10": {"world": done, "collect": large}})
    assert told.splitlines()[-1].startswith("users x10 ends at collect (stopped: more than 0.01 GiB); what takes over: Spark")
    assert "| collect | – | ends here |" in told


def test_rows_in_the_order_of_time_are_predicted_from_those_before() -> None:
    history = random_history(60, 80, 12)
    parts = [own_data.later(history, part, 3) for part in range(3)]
    for part, first in zip(parts, (30, 40, 50), strict=True):
        assert part.train[:first].nnz == history[:first].nnz
        assert part.train[first:].nnz == 0
        shown = np.diff(part.fold_in.indptr) + [len(tracks) for tracks in part.held_out]
        assert shown.tolist() == np.diff(history.indptr)[first : first + 10].tolist()


def test_figures_of_real_data_are_means_with_intervals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert own_data.interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.4841), abs=1e-3)
    monkeypatch.setitem(own_data.DATA, "hetrec", lambda: random_history(60, 80, 12))
    monkeypatch.setattr(own_data, "MODELS", ("popularity", "ease"))
    assert own_data.main(["hetrec", "--splits", "2", "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found["hetrec"]) == {"popularity", "ease"}
    assert all(0 < mean <= 1 for row in found["hetrec"].values() for mean, _ in row.values())


def test_data_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NIGHTSHIFT_BENCH_DATA", "/nowhere")
    assert own_data.main(["hetrec"]) == 2
    assert public.main(["--data", "hetrec"]) == 2
    assert public.there() == ["ml-100k"]
    assert capsys.readouterr().err.count("/nowhere holds no hetrec-user-artists.tsv") == 3


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random data in the place of public ones."""
    monkeypatch.setitem(public.DATA, "hetrec", lambda: random_history(80, 60, 12))


def test_a_public_table_tells_means_intervals_and_what_each_lacks(
    invented: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = public.Line("ease, tuned", "ours", "ease", [{"ridge": 1.0}, {"ridge": 500.0}])
    monkeypatch.setattr(public, "LINES", (public.LINES[0], tuned))
    assert public.main(["--data", "hetrec", "--seeds", "2", "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())["hetrec"]
    assert set(found) == {"popularity", "ease, tuned"}
    assert all(0 < row["ndcg_100"] <= 1 and row["seconds"] > 0 and row["mib"] > 10 for rows in found.values() for row in rows)
    assert all(row["config"] in tuned.grid for row in found["ease, tuned"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| popularity", "| ease, tuned"]
    assert sum("| 0.000 ± 0.000 |" in line for line in lines) == 1


def test_a_model_of_the_public_table_that_fails_is_told(
    invented: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(public, "LINES", (public.Line("mine", "ours", "ease", [{"ridges": 1}]),))
    assert public.main(["--data", "hetrec", "--quick"]) == UnavailableError.exit_code
    assert "mine failed with status" in capsys.readouterr().err


def test_a_split_survives_its_file(tmp_path: Path) -> None:
    data = split(random_history(80, 60, 12), 3)
    write_split(tmp_path / "split.npz", data.train, data.fold_in)
    for matrix, again in zip((data.train, data.fold_in), read_split(tmp_path / "split.npz"), strict=True):
        assert (matrix != again).nnz == 0


@needs_lastfm
def test_sessions_of_plays_are_those_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_BENCH_DATA", str(LASTFM))
    history = real_data.sessions_of_plays()
    settings = load_settings(var=tmp_path / "var")
    imported(settings, LASTFM / "plays-with-times.tsv", user="1", track="5", time="2", artist="4", title="6")
    tracks = {record["track"] for record in plays(settings)}
    assert history.shape[1] == len(tracks)
    # An import cuts sessions at midnight, too.
    assert 0.9 < history.shape[0] / sum(record["message"] == "last" for record in plays(settings)) <= 1


def test_half_of_the_variance_of_watched_listeners_lasts_and_tails_stay_heavy() -> None:
    rng = np.random.default_rng(1)
    times = rng.gamma(0.5, 4.0, 5000)
    found = watching.sessions(rng, watching.Setting(30, 20_000, True, 40_000), times)
    assert found.night.max() < 30
    assert found.time.std() == pytest.approx(times.std(), rel=0.1)
    order = np.lexsort((rng.random(len(found.user)), found.user))
    user, time = found.user[order], found.time[order]
    pairs = np.flatnonzero(user[1:] == user[:-1])
    shared = np.cov(time[pairs], time[pairs + 1])[0, 1] / times.var()
    assert shared == pytest.approx(watching.LASTING, abs=0.1)


def test_policies_are_foretold_and_played(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--world", str(bench.world), "--sessions", "3000", "--played", "500", "--json", str(tmp_path / "rows.json")]
    assert off_policy.main(words) == 0
    result = json.loads((tmp_path / "rows.json").read_text())
    assert len(result["policies"]) == 20
    assert all(low <= guess <= high for guess, low, high in (row["predicted"] for row in result["policies"].values()))
    assert f"{result['covered']} of 20 intervals cover" in capsys.readouterr().out


def test_ways_of_watching_are_compared(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["error", "--world", str(bench.world), "--runs", "100", "--nights", "8", "--users", "120", "--sessions", "2000"]
    assert watching.main([*words, "--json", str(tmp_path / "rows.json")]) == 0
    rows = {(row["setting"], row["way"]): row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert len(rows) == 2 * len(watching.WAYS)
    for setting in {setting for setting, _ in rows}:
        watched, once = rows[setting, watching.REPORTED], rows[setting, watching.ONE_LOOK]
        assert watched["false_percent"] <= watched["allowed_percent"]
        assert once["false_percent"] > watched["false_percent"]
        assert once["width"] == 1
    assert watching.main(["error", "--runs", "5"]) == InvalidInputError.exit_code
    assert watching.main(["errors"]) == InvalidInputError.exit_code
    assert "'errors' is none of the parts error and power" in capsys.readouterr().err


def test_what_comes_of_rollouts_alone_and_by_requests(
    bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rule.yml").write_text("stages: [{share: 40, margin: 0.5}, {share: 100}]\nlongest_hours: 12\nleast_users: 50\n")
    words = ["--world", str(bench.world), "--rule", str(tmp_path / "rule.yml"), "--users", "1000", "--sessions", "500"]
    monkeypatch.setattr(rollout, "LIFTS", {"much worse": 0.2, "much better": 5.0})
    for more in (["--seeds", "3"], ["--seeds", "1", "--service"]):
        assert rollout.main([*words, *more, "--json", str(tmp_path / "rows.json")]) == 0
        worse, better = json.loads((tmp_path / "rows.json").read_text())
        assert (worse["aborted"], worse["largest"]) == (int(more[1]), 40)
        assert (better["live"], better["largest"]) == (int(more[1]), 100)
    assert "| much worse | 1 | 0 | 0 | 40 % |" in capsys.readouterr().out
    assert rollout.main(["--seeds", "0"]) == InvalidInputError.exit_code
