"""Tables for people: what they hold, their dtypes, and errors that say what is missing."""

import json
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys import frames
from recsys.abtest.report import analyse
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import Arm, Experiment, RunSpec
from recsys.night.collect import collect
from recsys.night.night import Night
from recsys.night.report import build_refused_report
from recsys.settings import load_settings
from recsys.storage.store import Storage
from tests.support import documents
from tests.support.night import write_world
from tests.support.traffic import records, write

DESIGN = Experiment("X", (Arm("C", "contextual", "v"), Arm("T1", "dae", "v")), "salt")
NIGHT = date(2026, 1, 4)
#: Log dates that have logs, and those whose night has collected: each reads the two dates up to it.
DAYS, NIGHTS = [date(2026, 1, day) for day in (1, 2, 3, 4)], [date(2026, 1, 2), date(2026, 1, 3), NIGHT]


def publish_logs(store: Storage, name: str, rows: list[dict[str, Any]], design: Experiment | None, tail: str = "") -> None:
    with store.stage(name) as staging:
        write(staging / "0000-a.jsonl", rows, tail)
        RunSpec("night", "v", 0.0, 1, design, 500).write(staging)


def collect_night(store: Storage, day: date, **more: Any) -> Night:
    """The night, collected; its date keeps a copy of the catalogue, so the world may go."""
    with TemporaryDirectory() as scratch:
        night = Night(day, load_settings(storage=store.url, world=write_world(Path(scratch) / "world", tracks=500), **more))
        collect(night)
    return night


def fill(url: str) -> Storage:
    """Four log dates, three nights that read two of them each, and the experiment, lists, report and verdict of the last one."""
    store = Storage(url)
    for day in DAYS:
        rows = records(DESIGN, users=12, sessions=30, seed=day.day, run=f"traffic-{day}.0.a")
        publish_logs(store, f"logs/date={day}", [row | {"experiments": {}} for row in rows], None, tail="{]\n")
    for night in NIGHTS:
        collect_night(store, night, window=2, malformed=0.1)
    publish_logs(store, f"experiments/date={NIGHT}", records(DESIGN, users=40, sessions=160, lift={"T1": 1.5}), DESIGN)
    document = analyse(store.local(f"experiments/date={NIGHT}"), "X", "C", design=DESIGN)
    with store.stage(f"reports/date={NIGHT}") as staging:
        document.write(staging)
    documents.publish(store, NIGHT, documents.verdict("held", "v", live=""))
    with store.stage(f"recommendations/date={NIGHT}") as staging:
        lists = [{"user": user, "tracks": [user + 7, user + 3, user + 5]} for user in (0, 4)]
        (staging / "recommendations.json").write_text("".join(json.dumps(row) + "\n" for row in lists))
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return fill(f"file://{tmp_path_factory.mktemp('frames')}")


@pytest.fixture(autouse=True)
def _settings(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_STORAGE", store.url)


def columns(frame: pd.DataFrame) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in frame.dtypes.items())


SESSION = "user int64, run category, session int64"


def test_a_night_s_sessions_are_those_of_the_log_dates_that_it_read() -> None:
    found = frames.sessions("2026-01-04")
    assert columns(found) == f"{SESSION}, log_date datetime64[s], steps int64, time float64, first_track int32"
    assert found.groupby("log_date").size().to_dict() == {pd.Timestamp("2026-01-03"): 30, pd.Timestamp("2026-01-04"): 30}
    assert list(found.index) == list(range(60))
    for day in (NIGHT, datetime(2026, 1, 4, 12), pd.Timestamp("2026-01-04")):
        pd.testing.assert_frame_equal(frames.sessions(day), found)


def test_since_takes_each_log_date_once_whatever_the_nights_overlap() -> None:
    found = frames.sessions(NIGHT, since="2026-01-01")
    assert found.groupby("log_date").size().tolist() == [30] * 4
    assert found.log_date.is_monotonic_increasing
    assert not found.duplicated(["run", "user", "session"]).any()
    assert frames.sessions(NIGHT, since=NIGHT).log_date.unique().tolist() == [pd.Timestamp(NIGHT)]
    assert len(frames.sessions("2026-01-03", since="2026-01-02")) == 60


def test_plays_are_in_tracks_and_add_up_to_their_sessions() -> None:
    found = frames.plays(NIGHT)
    more = "step int32, track int32, time float64, recommendation Int32, propensity float64, log_date datetime64[s]"
    assert columns(found) == f"{SESSION}, {more}"
    key = ["log_date", "user", "run", "session"]
    sums = found.groupby(key).agg(steps=("step", "size"), time=("time", "sum"), first_track=("track", "first")).reset_index()
    told = frames.sessions(NIGHT)
    pd.testing.assert_frame_equal(sums[told.columns], told, check_dtype=False)
    last = found.groupby(key).tail(1)
    assert last.recommendation.isna().all()
    assert last.propensity.isna().all()


def test_interactions_are_the_liked_pairs_of_the_plays() -> None:
    found, plays = frames.interactions(NIGHT), frames.plays(NIGHT)
    assert columns(found) == "user int64, track int32, weight float32, log_date datetime64[s]"
    key = ["log_date", "user", "track"]
    liked = plays.loc[plays.time > 0.8, key].drop_duplicates().sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(found[key], liked)


def test_logs_are_the_lines_that_are_whole_records() -> None:
    found = frames.logs(NIGHT)
    start = "message category, timestamp datetime64[ms, UTC], user int64, track int32, time float64, run category, session int64"
    end = "propensity float64, user_id str, track_id str, log_date datetime64[s]"
    assert columns(found) == f"{start}, step int32, recommendation Int32, {end}"
    (path,) = Storage(load_settings().storage_url).local(f"logs/date={NIGHT}").glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()[:-1]]
    assert found.track.tolist() == [line["track"] for line in sorted(lines, key=lambda line: line["timestamp"])]
    assert found.timestamp.iloc[0] == pd.Timestamp(min(line["timestamp"] for line in lines), unit="ms", tz="UTC")
    assert found.run.unique().tolist() == [f"traffic-{NIGHT}"]
    assert len(frames.logs(NIGHT, "experiments")) != len(found)


def test_an_experiment_s_sessions_have_the_arm_of_their_user() -> None:
    found = frames.experiment(NIGHT)
    assert columns(found) == "user int64, arm category, ordinal int64, steps int64, time float64"
    assert len(found) == 160
    assert found.arm.tolist() == [DESIGN.arm_of(user).name for user in found.user]
    assert (found.ordinal == found.groupby("user").cumcount()).all()
    logged = frames.logs(NIGHT, "experiments").groupby(["user", "session"]).time.agg(["size", "sum"])
    assert found.steps.tolist() == logged["size"].tolist()
    assert found.time.tolist() == pytest.approx(logged["sum"].tolist())


def test_metrics_are_those_of_the_report() -> None:
    found = frames.metrics(NIGHT)
    assert found.columns[:3].tolist() == ["name", "label", "unit"]
    primary = found[found.role == "primary"].iloc[0]
    users = frames.experiment(NIGHT).groupby(["arm", "user"]).time.mean().groupby("arm").agg(["size", "mean"])
    assert [primary.control_users, primary.treatment_users] == users["size"].tolist()
    assert [primary.control_mean, primary.treatment_mean] == pytest.approx(users["mean"].tolist())
    assert primary.ci_low_percent < primary.effect_percent < primary.ci_high_percent
    assert found.reason.isna().all()


def test_a_refused_night_has_a_verdict_and_no_metrics(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    publish_logs(store, f"logs/date={NIGHT}", records(DESIGN, users=5, sessions=9), None)
    night = collect_night(store, NIGHT)
    documents.publish(store, NIGHT, documents.gate(passed=False))
    build_refused_report(night)
    found = frames.metrics(NIGHT, storage=store.url)
    assert found.empty
    assert columns(found) == columns(frames.metrics(NIGHT))
    assert frames.nights(storage=store.url).verdict.tolist() == ["failed"]


def test_nights_have_a_row_each() -> None:
    found = frames.nights()
    effect = "effect_percent float64, ci_low_percent float64, ci_high_percent float64"
    versus = "live_effect_percent float64, live_ci_low_percent float64, live_ci_high_percent float64"
    first = f"log_date datetime64[s], verdict str, sessions Int64, {effect}, live str, report str"
    told = "predicted_percent float64, predicted_low_percent float64, predicted_high_percent float64"
    assert columns(found) == f"{first}, version str, {versus}, reason str, {told}"
    assert found.log_date.dt.date.tolist() == NIGHTS
    assert found.verdict.tolist() == ["failed", "failed", "held"]
    assert found.sessions.isna().tolist() == [True, True, False]
    assert found.live.isna().all()


def test_lists_are_in_order_of_rank() -> None:
    found = frames.lists(NIGHT)
    assert columns(found) == "user int64, rank int32, track int32"
    assert found.to_numpy().tolist() == [[0, 1, 7], [0, 2, 3], [0, 3, 5], [4, 1, 11], [4, 2, 7], [4, 3, 9]]


@pytest.mark.real
def test_hdfs_gives_the_same_tables(hdfs_root: str, scratch: Path) -> None:
    fill(hdfs_root)
    tables = (frames.sessions, frames.plays, frames.interactions, frames.logs, frames.experiment, frames.metrics, frames.lists)
    for table in tables:
        pd.testing.assert_frame_equal(table(NIGHT, storage=hdfs_root), table(NIGHT))
    pd.testing.assert_frame_equal(frames.sessions(NIGHT, since=DAYS[0], storage=hdfs_root), frames.sessions(NIGHT, since=DAYS[0]))
    assert frames.nights(storage=hdfs_root).verdict.tolist() == frames.nights().verdict.tolist()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lambda: frames.plays("2026-01-09"), "interactions/date=2026-01-09 .*'recsys nightly --date 2026-01-09' makes it"),
        (lambda: frames.logs("2026-01-09"), "logs/date=2026-01-09 .*'recsys traffic --date 2026-01-09' makes it"),
        (lambda: frames.logs("2026-01-03", "experiments"), "experiments/date=2026-01-03 .*'recsys nightly"),
        (lambda: frames.metrics("2026-01-03"), "reports/date=2026-01-03 .*'recsys nightly"),
        (lambda: frames.lists("2026-01-03"), "recommendations/date=2026-01-03 .*'recsys nightly"),
        (lambda: frames.experiment(NIGHT, "logs"), "logs/date=2026-01-04 .* without an experiment"),
        (lambda: frames.sessions("2026-02-09", since="2026-02-01"), "no night up to 2026-02-09 .* logs/date=2026-02-09"),
        (lambda: frames.nights(storage="file:///nowhere"), "file:///nowhere holds no night; .*'make run'"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_makes_it(table: Callable[[], pd.DataFrame], message: str) -> None:
    with pytest.raises(MissingDataError, match=message):
        table()


def test_a_log_date_that_no_night_has_read_is_named(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    for day in (1, 2, 4):
        publish_logs(store, f"logs/date=2026-01-0{day}", records(DESIGN, users=5, sessions=9, seed=day), None)
    for night in (date(2026, 1, 1), date(2026, 1, 4)):
        collect_night(store, night, window=2)
    with pytest.raises(MissingDataError, match="has read logs/date=2026-01-02"):
        frames.sessions("2026-01-04", since="2026-01-01", storage=store.url)
    # A date without logs is no gap: nobody listened.
    assert len(frames.sessions("2026-01-04", since="2026-01-03", storage=store.url)) == 9


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lambda: frames.sessions("yesterday"), "'yesterday' is not a date"),
        (lambda: frames.sessions(NIGHT, since="2026-02-01"), "since 2026-02-01 lies after log date 2026-01-04"),
        (lambda: frames.logs(NIGHT, "experiment"), "'experiment' is none of logs, experiments"),  # type: ignore[arg-type]
        (lambda: frames.lists(NIGHT, storage="/var/storage"), "is not a URL"),
    ],
)
def test_what_cannot_be_meant_is_refused(table: Callable[[], pd.DataFrame], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        table()


def test_repeated_events_stay_in_logs_and_leave_plays(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    rows = records(DESIGN, users=3, sessions=5)
    publish_logs(store, f"logs/date={NIGHT}", [*rows, rows[0]], None)
    collect_night(store, NIGHT)
    assert len(frames.logs(NIGHT, storage=store.url)) == len(rows) + 1
    assert len(frames.plays(NIGHT, storage=store.url)) == len(rows)


def test_nights_that_kept_users_in_32_bits_are_read_with_later_ones(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}")
    for day in (1, 2):
        publish_logs(store, f"logs/date=2026-01-0{day}", records(DESIGN, users=5, sessions=9, seed=day), None)
        collect_night(store, date(2026, 1, day), window=2)
    expected = frames.sessions("2026-01-02", since="2026-01-01", storage=store.url)
    name = "interactions/date=2026-01-02"
    old = {path.name: path.read_bytes() for path in store.local(name).iterdir() if path.name not in ("manifest.json", "_SUCCESS")}
    table = pq.read_table(store.local(name) / "sessions.parquet")
    with store.stage(name) as staging:
        for file, content in old.items():
            (staging / file).write_bytes(content)
        pq.write_table(table.set_column(0, "user", table["user"].cast("int32")), staging / "sessions.parquet")
    pd.testing.assert_frame_equal(frames.sessions("2026-01-02", since="2026-01-01", storage=store.url), expected)
