"""Raw logs to interactions and sessions."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys.exceptions import CorruptDataError, InvalidInputError, MissingDataError
from recsys.logs.record import NO_TRACK
from recsys.night.collect import collect
from recsys.night.night import Night
from recsys.schemas import Inputs
from recsys.settings import Settings, load_settings
from recsys.storage.manifest import sha256
from recsys.storage.store import Storage
from tests.support.night import TRACKS, write_world
from tests.support.open_world import write_catalogue

pytestmark = pytest.mark.slow

DAY = date(2026, 1, 5)
SETTINGS = load_settings(window=3, malformed=1.0)


def record(user: int, step: int, track: int, time: float, message: str = "next", **more: Any) -> str:
    row = {
        "message": message,
        "timestamp": 1000 + step,
        "user": user,
        "track": track,
        "time": time,
        "latency": 0.001,
        "recommendation": 1,
        "experiments": {},
        "run": "traffic.0.a",
        "version": "",
        "session": 0,
        "step": step,
        "event": None,
        "source": "exploration",
        "degraded": False,
        "propensity": 0.1,
    }
    return json.dumps(row | more) + "\n"


def publish(store: Storage, day: str, text: str) -> None:
    with store.stage(f"logs/date={day}") as staging:
        (staging / "0000-w.jsonl").write_text(text)
        (staging / "run.json").write_text("{}")


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    store = Storage(f"file://{tmp_path}/store")
    publish(store, "2026-01-02", record(9, 0, 9, 1.0))  # before the window
    publish(store, "2026-01-03", record(2, 0, 7, 1.0) + record(2, 1, 8, 0.8) + record(2, 2, 7, 0.0, "last"))
    liked = record(1, 0, 5, 1.0)
    text = liked + liked + record(1, 1, 6, 0.81) + record(1, 2, 5, 0.9, "last", session=0) + record(1, 0, 5, 1.0, session=1)
    publish(store, "2026-01-05", text)
    return store


def collected(store: Storage, settings: Settings = SETTINGS, day: date = DAY, **more: Any) -> dict[str, int]:
    """Counts of the night that collects from a store, in a world beside it."""
    world = Path(store.url.removeprefix("file://")).parent / "world"
    if not world.exists():
        write_world(world)
    return collect(Night(day, settings.model_copy(update={"storage": store.url, "world": world})), **more)


def read(store: Storage, name: str) -> list[dict[str, Any]]:
    return pq.read_table(store.local(f"interactions/date={DAY}") / name).to_pylist()


def test_positives_are_distinct_and_sorted(store: Storage) -> None:
    counts = collected(store, live="v")
    rows = [(r["user"], r["track"], r["weight"], r["log_date"]) for r in read(store, "interactions.parquet")]
    assert rows == [(2, 7, 1.0, date(2026, 1, 3)), (1, 5, 1.0, DAY), (1, 6, 1.0, DAY)]
    assert (counts["repeated"], counts["malformed"], counts["sessions"]) == (1, 0, 3)
    assert Inputs.read(store, DAY).live == "v"


def test_sessions_sum_their_plays(store: Storage) -> None:
    collected(store)
    rows = [(r["user"], r["session"], r["steps"], r["time"], r["first_track"]) for r in read(store, "sessions.parquet")]
    assert rows == [(2, 0, 3, 1.8, 7), (1, 0, 3, 2.71, 5), (1, 1, 1, 1.0, 5)]


@pytest.mark.parametrize(
    "line",
    [
        "{]\n",
        "[1]\n",
        '"text"\n',
        record(3, 0, 1, 1.5),
        record(-3, 0, 1, 1.0),
        record(3, 0, -1, 1.0),
        record(3, 0, 1, 1.0, "stop"),
        '{"user": null, "message": "next"}\n',
        record(3, 0, 1, 1.0, session="x"),
        record(3, 0, 1, 1.0)[:-20],
        record(3, 0, 1, 1.0)[:-1],
    ],
)
def test_malformed_lines_are_dropped_and_counted(store: Storage, line: str) -> None:
    publish(store, "2026-01-05", record(1, 0, 5, 1.0) + line)
    counts = collected(store)
    assert counts["malformed"] == 1
    assert [r["user"] for r in read(store, "interactions.parquet")] == [2, 1]


def test_a_rerun_writes_the_same_bytes(store: Storage) -> None:
    collected(store)
    before = store.manifest(f"interactions/date={DAY}")
    store.remove(f"interactions/date={DAY}")
    collected(store)
    assert store.manifest(f"interactions/date={DAY}") == before


def test_a_date_without_logs_is_named(store: Storage) -> None:
    with pytest.raises(MissingDataError, match="logs/date=2026-01-04"):
        collected(store, day=date(2026, 1, 4))
    assert not store.is_complete("interactions/date=2026-01-04")


def test_logs_without_a_valid_record_are_an_error(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}/store")
    publish(store, "2026-01-05", "garbage\n")
    with pytest.raises(MissingDataError, match="none of the 1 lines"):
        collected(store)
    assert not store.is_complete(f"interactions/date={DAY}")


def test_logs_in_another_form_are_not_left_out_without_a_word(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}/store")
    for whole in ("", record(1, 0, 5, 1.0)):
        with store.stage(f"logs/date={DAY}") as staging:
            (staging / "a.jsonl.gz").write_bytes(b"")
            if whole:
                (staging / "b.jsonl").write_text(whole)
        with pytest.raises(InvalidInputError, match=r"a\.jsonl\.gz is a log in another form"):
            collected(store)


def test_logs_without_a_file_are_named(tmp_path: Path) -> None:
    store = Storage(f"file://{tmp_path}/store")
    with store.stage(f"logs/date={DAY}") as staging:
        (staging / "run.json").write_text("{}")
    with pytest.raises(MissingDataError, match=f"the logs of {DAY} hold no log files"):
        collected(store)


@pytest.mark.drill("logs", "they hold two tries of a shard", "each event counts once")
def test_two_tries_of_a_shard_count_once(store: Storage) -> None:
    publish(store, "2026-01-05", record(1, 0, 5, 1.0) + record(1, 0, 5, 1.0, run="traffic.0.b"))
    assert collected(store)["repeated"] == 1


def test_other_events_in_the_place_of_earlier_ones_are_counted(store: Storage, caplog: pytest.LogCaptureFixture) -> None:
    first, again = record(1, 0, 5, 1.0, timestamp=1), record(1, 0, 5, 1.0, timestamp=2)
    later = record(1, 0, 6, 1.0, timestamp=3) + record(1, 1, 7, 0.4, "last", timestamp=4)
    publish(store, str(DAY), later + again + first)
    counts = collected(store)
    assert (counts["repeated"], counts["displaced"]) == (2, 1)
    assert [row["track"] for row in read(store, "plays.parquet") if row["user"] == 1] == [5, 7]
    assert "dropped 1 events in the places of earlier ones" in caplog.text


@pytest.mark.drill("logs", "a few malformed lines", "they go to quarantine, each with its reason")
def test_malformed_lines_go_to_quarantine_with_their_reason(store: Storage) -> None:
    publish(store, str(DAY), record(1, 0, 5, 1.0) + record(3, 0, 1, 1.5) + "{]\n" + record(3, 0, 1, 1.0)[:-1])
    counts = collected(store)
    assert counts["malformed"] == 3
    name = f"quarantine/date={DAY}"
    rows = [json.loads(line) for line in (store.local(name) / "malformed.jsonl").read_text().splitlines()]
    assert [(r["file"], r["line"], r["reason"]) for r in rows] == [
        ("0000-w.jsonl", 2, "time out of range"),
        ("0000-w.jsonl", 3, "not JSON"),
        ("0000-w.jsonl", 4, "unterminated"),
    ]
    assert rows[1]["text"] == "{]"
    assert store.manifest(name).counts == {"lines": 4, "time out of range": 1, "not JSON": 1, "unterminated": 1}
    publish(store, str(DAY), record(1, 0, 5, 1.0))
    collected(store)
    assert not store.is_complete(name)


@pytest.mark.drill("logs", "too many malformed lines", "collection fails and counts each reason")
def test_too_many_malformed_lines_are_an_error_that_counts_them(store: Storage) -> None:
    good = "".join(record(1, step, 5, 1.0) for step in range(98))
    publish(store, str(DAY), good + "{]\n" * 2 + record(3, 0, 1, 1.0)[:-1])
    settings = load_settings(window=3, malformed=0.01)
    with pytest.raises(CorruptDataError, match=r"2 of 104 lines are malformed \(2 not JSON, 1 unterminated\)"):
        collected(store, settings)
    assert not store.is_complete(f"interactions/date={DAY}")
    assert store.is_complete(f"quarantine/date={DAY}")
    publish(store, str(DAY), good + "{]\n")
    assert collected(store, settings)["malformed"] == 1


@pytest.mark.drill("logs", "four of 204 answers were given without Redis", "they are counted, and are not malformed")
def test_answers_without_redis_are_counted_and_not_malformed(store: Storage) -> None:
    alone = "".join(record(3, step, 5, 1.0, session=-1, degraded=True) for step in range(3))
    alone += record(3, 3, 5, 1.0, "last", session=-1, degraded=True, recommendation=None, propensity=None)
    publish(store, str(DAY), "".join(record(1, step, 5, 1.0) for step in range(200)) + alone)
    counts = collected(store, load_settings(window=2, malformed=0.01))
    assert (counts["lines"], counts["events"], counts["degraded"], counts["malformed"]) == (204, 200, 4, 0)
    assert [row["user"] for row in read(store, "sessions.parquet")] == [1]
    assert not store.is_complete(f"quarantine/date={DAY}")


@pytest.mark.parametrize("more", [{"session": -1}, {"session": -1, "degraded": 1}, {"session": -2, "degraded": True},
    {"session": -1, "degraded": True, "step": -1}, {"session": -1, "degraded": True, "run": ""},
    {"session": -1, "degraded": True, "track": None}])  # fmt: skip
def test_what_only_looks_like_an_answer_without_redis_is_malformed(store: Storage, more: dict[str, Any]) -> None:
    publish(store, str(DAY), record(1, 0, 5, 1.0) + json.dumps(json.loads(record(3, 0, 5, 1.0)) | more) + "\n")
    counts = collected(store)
    assert (counts["degraded"], counts["malformed"]) == (0, 1)


@pytest.mark.slow
def test_a_file_is_the_same_bytes_whatever_the_number_of_threads(tmp_path: Path) -> None:
    import ibis

    from recsys.logs.engines import ROW_GROUP, engine

    checksums = set()
    for threads in (1, 2, 7):
        with engine("duckdb", tmp_path) as queries:
            queries._connection.raw_sql(f"SET threads = {threads}")
            numbers = ibis.range(0, 2 * ROW_GROUP + 7).unnest().name("n").as_table()
            table = queries.keep(numbers.mutate(key=lambda t: (t.n * 7919) % 1_000_003, text=lambda t: t.n.cast("string")))
            queries.write(table.order_by(["key", "n"]), tmp_path / "a.parquet")
        checksums.add(sha256(tmp_path / "a.parquet"))
    assert len(checksums) == 1


def test_tracks_that_the_catalogue_does_not_have_are_counted_and_left_out(
    store: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = record(4, 0, TRACKS, 1.0) + record(4, 1, 7, 0.9) + record(4, 2, NO_TRACK, 1.0, "last")
    publish(store, str(DAY), unknown + record(5, 0, 2 * TRACKS, 1.0, "last"))
    counts = collected(store)
    assert (counts["events"], counts["unknown_tracks"], counts["plays"]) == (7, 3, 4)
    assert f"left out 3 plays of tracks beyond the {TRACKS} of catalogue/date={DAY}" in caplog.text
    assert [(r["user"], r["track"]) for r in read(store, "interactions.parquet")] == [(2, 7), (4, 7)]
    assert [(r["user"], r["track"]) for r in read(store, "plays.parquet")] == [(2, 7), (2, 8), (2, 7), (4, 7)]
    # Who heard nothing else was there, too.
    assert [(r["user"], r["steps"]) for r in read(store, "sessions.parquet")] == [(2, 3), (4, 3), (5, 1)]


def test_a_track_that_was_unknown_has_the_number_of_its_id(store: Storage, tmp_path: Path) -> None:
    write_catalogue(tmp_path / "world", 12, ids={11: "new", 5: "old"})
    named = record(4, 0, NO_TRACK, 1.0, track_id="new") + record(4, 1, NO_TRACK, 1.0, "last", track_id="unheard of")
    publish(store, str(DAY), named)
    counts = collected(store)
    assert counts["unknown_tracks"] == 1
    assert [(r["user"], r["track"]) for r in read(store, "interactions.parquet")] == [(2, 7), (4, 11)]


def test_users_have_63_bits(store: Storage) -> None:
    ids = [2**31, 2**53 + 1, 2**63 - 1]
    publish(store, str(DAY), "".join(record(user, 0, 7, 1.0, "last") for user in ids))
    collected(store)
    for name in ("interactions", "sessions", "plays"):
        table = pq.read_table(store.local(f"interactions/date={DAY}") / f"{name}.parquet")
        assert str(table.schema.field("user").type) == "int64"
        assert [user for user in table["user"].to_pylist() if user > 2] == ids


def test_the_catalogue_s_checksum_is_noted(store: Storage) -> None:
    collected(store)
    assert Inputs.read(store, DAY).catalogue == store.manifest(f"catalogue/date={DAY}").checksum
