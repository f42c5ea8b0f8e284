"""What the page of nights is made from: rows read once, runs and leases beside them, the picture, what is live, health."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import redis

from recsys.abtest.history import NightRow, Nights
from recsys.inspection import health
from recsys.inspection.effects import effects_picture
from recsys.inspection.listing import Entry, Filter, Run, duration, entries, listing, neighbours
from recsys.inspection.pages import Overview, nights_page
from recsys.inspection.standing import standing, standing_in_files
from recsys.settings import Settings, load_settings
from recsys.storage.layout import Dated
from recsys.storage.marks import marks
from recsys.storage.store import Storage
from recsys.versions import keyspace, lease, pointer, restore
from tests.support.components import Valkey, free_port
from tests.support.documents import inputs, publish, verdict
from tests.support.many_nights import fill

FIRST = date(2026, 1, 1)
NOW = datetime(2026, 1, 9, 4, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path / 'storage'}")


@pytest.fixture
def client(valkey: Valkey) -> redis.Redis:
    return keyspace.connect(load_settings(redis_url=valkey.url))


def test_a_night_is_read_again_only_when_it_is_another(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, FIRST, 3)
    found = Nights(store)
    before = found.rows()
    assert [row.log_date for row in before] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    read: list[str] = []
    original = store.read_bytes
    monkeypatch.setattr(store, "read_bytes", lambda name, file: read.append(name) or original(name, file))
    assert found.rows() == before
    assert read == []
    publish(store, FIRST, verdict("held", "v", live="w"))
    assert found.rows()[0].verdict == "held"
    assert {name.partition("date=")[2] for name in read} == {"2026-01-01"}
    store.remove("interactions/date=2026-01-02")
    assert len(found.rows()) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "link"])
def test_one_damaged_night_hides_no_other(store: Storage, damage: str) -> None:
    fill(store, FIRST, 3)
    found = Nights(store)
    assert all(row.verdict != "damaged" for row in found.rows())
    file = Path(store.path("reports/date=2026-01-02")) / "report.json"
    match damage:
        case "cut":
            file.write_bytes(file.read_bytes()[:100])
        case "empty":
            file.write_bytes(b"")
        case "other":
            file.write_text(file.read_text().replace("DAE_VS", "ABC_VS"))
        case "link":
            file.unlink()
            file.symlink_to(file.name)
    rows = found.rows()
    assert rows[1].verdict == "damaged"
    assert rows[1].reason
    assert "damaged" not in (rows[0].verdict, rows[2].verdict)
    assert entries(rows, {}, {})[1].because


def test_marks_leave_out_what_is_no_dated_directory(store: Storage) -> None:
    assert marks(store, Dated.LOGS) == {}
    publish(store, FIRST, inputs(FIRST))
    root = Path(store.path("interactions"))
    (root / "date=2026-01-02").write_text("a file")
    (root / "date=2026-01-03.bak").mkdir()
    (root / "date=2026-01-04").symlink_to("/etc")
    assert list(marks(store, Dated.INTERACTIONS, "inputs.json")) == [FIRST]


def test_a_run_that_is_under_way_hides_what_an_earlier_one_left() -> None:
    rows = [NightRow("2026-01-01", "promoted", reason="Promoted: better."), NightRow("2026-01-02")]
    days = [FIRST + timedelta(days=n) for n in range(5)]
    runs = {
        days[0]: Run("again", "running", NOW - timedelta(minutes=7)),
        days[1]: Run("b", "failed", NOW, NOW + timedelta(seconds=9)),
        days[2]: Run("c", "queued"),
    }
    found = entries(rows, runs, {days[0]: "again", days[3]: "person ann", days[2]: "other"})
    assert [entry.log_date for entry in found] == days[3::-1]
    said = {entry.log_date: (entry.status, entry.said, entry.because, duration(entry, NOW)) for entry in found}
    assert said == {
        days[0]: ("running", "Running", "before: promoted", "7 min"),
        days[1]: ("failed", "Failed", "", "9 s"),
        days[2]: ("running", "Queued", "", ""),
        days[3]: ("running", "Running", "person ann", ""),
    }
    assert Entry(days[0], rows[0]).because == "Better."
    before, this, after = neighbours(found, days[1])
    assert (before and before.log_date, this.log_date, after and after.log_date) == (days[0], days[1], days[2])


def test_a_filter_says_what_it_leaves_out() -> None:
    rows = [NightRow(str(FIRST + timedelta(days=n)), "held", version=f"2026-01-0{n + 1}-0a1b2c3d") for n in range(5)]
    every = entries(rows, {}, {})
    found = listing(every, {"since": "2026-01-02", "until": "2026-01-03", "verdict": "held", "version": "0a1b"})
    assert [str(entry.log_date) for entry in found.shown] == ["2026-01-03", "2026-01-02"]
    assert found.problems == []
    assert found.wanted.query(2) == "verdict=held&since=2026-01-02&until=2026-01-03&version=0a1b&page=2"
    for query in ({"verdict": "x"}, {"version": "../x"}, {"since": "today"}, {"page": "2"}, {"page": "-1"}, {"page": "٣"}):
        found = listing(every, query)
        assert len(found.problems) == 1, query
        assert len(found.shown) == 5
        assert found.wanted == Filter()


def test_the_picture_has_both_effects_of_a_night() -> None:
    control = {"effect_percent": 30.0, "ci_low_percent": 20.0, "ci_high_percent": 40.0}
    live = {"live_effect_percent": -5.0, "live_ci_low_percent": -8.0, "live_ci_high_percent": -2.0}
    picture = effects_picture([NightRow("2026-01-01"), NightRow("2026-01-02", "held", **control, **live)])
    assert picture is not None
    [column] = picture.columns
    against_control, against_live = column.marks
    assert [mark.live for mark in column.marks] == [False, True]
    assert against_control.high < against_control.middle < against_control.low < against_live.high < against_live.low
    assert picture.told == (
        "The last: 2026-01-02, held: +30.0 % against the control (+20.0 % to +40.0 %), "
        "−5.0 % against the live version (−8.0 % to −2.0 %)."
    )
    [zero] = [y for y, _, is_zero in picture.ticks if is_zero]
    assert against_control.low < zero < against_live.high
    assert effects_picture([NightRow("2026-01-01")]) is None


def test_what_is_live_names_who_and_since_when(client: redis.Redis, store: Storage) -> None:
    version = "2026-01-01-0a1b2c3d"
    client.hset(keyspace.version_key(version), "state", "complete")
    pointer.make_live(client, version, who="person ann", why="better")
    pointer.hold(client, who="person bob", why="holidays")
    lease.take(client, FIRST, "run a")
    found = standing(client)
    assert found.live.version == version
    assert found.move
    assert (found.move.who, found.move.why) == ("person ann", "better")
    assert [(held.name, held.who, held.why) for held in found.held] == [("All promotions", "person bob", "holidays")]
    assert found.holders == {FIRST: "run a"}
    assert not standing_in_files(store).known


def test_the_copy_in_files_tells_it_while_redis_is_away(store: Storage) -> None:
    version = "2026-01-01-0a1b2c3d"
    copy = restore.LiveCopy(
        pointer=pointer.Pointer(version, 1, "2026-01-01"),
        blocked=["*"],
        audit=[pointer.Entry("2026-01-01T03:00:00+00:00", "promote", "", version, "person ann", "better")],
    )
    with store.stage(restore.COPY) as staging:
        copy.write(staging)
    found = standing_in_files(store)
    assert found.copied
    assert found.known
    assert found.live.version == version
    assert found.move
    assert found.move.who == "person ann"
    (Path(store.path(restore.COPY)) / restore.LiveCopy.FILE).write_text("{")
    assert not standing_in_files(store).known


class _Service(BaseHTTPRequestHandler):
    """Answers as the service does, or as a test says."""

    answer: tuple[int, bytes] = (200, b"{}")

    def do_GET(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Service)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def settings_of(valkey: Valkey, service: str) -> Settings:
    return load_settings(redis_url=valkey.url, service_url=service)


@pytest.mark.parametrize(
    ("status", "body", "ok", "words"),
    [
        (200, json.dumps({"live": "v1"}).encode(), True, "serves v1"),
        (200, json.dumps({"live": "v0"}).encode(), False, "It serves v0, but v1 is live."),
        (200, b"<html>", False, "no service of Nightshift"),
        (200, b"[]", False, "no service of Nightshift"),
        (503, b"no lists", False, "not ready: 503 no lists"),
    ],
)
def test_the_service_agrees_with_what_is_live(
    valkey: Valkey, service: str, store: Storage, status: int, body: bytes, ok: bool, words: str
) -> None:
    _Service.answer = (status, body)
    answers, redis_part, storage = health.look(settings_of(valkey, service), store, "v1")
    assert (answers.ok, redis_part.ok, storage.ok) == (ok, True, True)
    assert words in answers.text


def test_parts_that_are_away_say_so_at_once(store: Storage) -> None:
    away = f"127.0.0.1:{free_port()}"
    begun = time.monotonic()
    answers, redis_part, storage = health.look(
        load_settings(redis_url=f"redis://:secret@{away}", service_url=f"http://{away}"), store, None
    )
    assert time.monotonic() - begun < 10 * health.PATIENCE
    assert (answers.ok, redis_part.ok, storage.ok) == (False, False, True)
    assert away in answers.text
    assert away in redis_part.text
    assert "secret" not in redis_part.text
    assert storage.text == "0 log dates."


@pytest.mark.slow
def test_a_hundred_nights_are_a_page_in_under_a_second(store: Storage) -> None:
    fill(store, FIRST, 100)
    found = Nights(store)
    text = nights_page(Overview(listing(entries(found.rows(), {}, {}), {}), standing_in_files(store), []), home="/n")
    assert "100 of 100 nights" in text
    begun = time.process_time()
    every = entries(found.rows(), {}, {})
    nights_page(Overview(listing(every, {}), standing_in_files(store), []), home="/n")
    assert time.process_time() - begun < 1
