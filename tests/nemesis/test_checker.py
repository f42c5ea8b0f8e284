"""Every violation of the contract is found: a night's history that keeps it, doctored in one way at a time."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nemesis.checker import check
from tests.nemesis.client import Event
from tests.nemesis.history import History, Lease, Line, Move, Redis, Reference, Snapshot, unpacked
from tests.nemesis.stage import Ran

DAY, VERSION = "2026-01-05", "2026-01-05-0a1b2c3d"
TRACKS, USERS = 60, 6
LISTS = {user: [(user + 7 * place) % TRACKS for place in range(50)] for user in range(USERS)}
TOP = list(range(40))


def line(event: Event, session: int, step: int, **more: Any) -> Line:
    """A line of the log as the service writes it."""
    told = {
        "message": "last" if event.last else "next", "timestamp": 1, "user": event.user, "track": event.track,
        "time": event.time, "latency": 0.001, "recommendation": event.answer, "experiments": {}, "run": "live",
        "version": VERSION, "session": session, "step": step, "event": event.key, "source": None if event.last else "dae",
        "degraded": False, "propensity": None if event.last else 1.0,
    }  # fmt: skip
    return told | more


def publish(directory: Path, files: dict[str, bytes], counts: dict[str, int] | None = None) -> None:
    """A dated directory with its manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    told = [{"name": n, "bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in sorted(files.items())]
    (directory / "manifest.json").write_text(json.dumps({"files": told, "counts": counts or {}}))
    (directory / "_SUCCESS").touch()


def jsonl(rows: list[Line]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def listened(user: int, number: int) -> tuple[list[Event], list[Line]]:
    """A session of three events, answered from the user's list."""
    first, second, third = LISTS[user][1], LISTS[user][0], LISTS[user][2]
    events = [
        Event(user, f"e{number}", False, first, 0.5, tries=[200], answered=True, answer=second),
        Event(user, f"e{number + 1}", False, second, 0.5, tries=["TimeoutError", 200], answered=True, answer=third),
        Event(user, f"e{number + 2}", True, third, 0.5, tries=[200], answered=True, answer=None),
    ]
    return events, [line(event, 1000 + number, step) for step, event in enumerate(events)]


class Ground:
    """A history that keeps the contract, and where its parts stand."""

    def __init__(self, directory: Path) -> None:
        self.logs, self.storage = directory / "logs", directory / "storage"
        self.events: list[Event] = []
        self.lines: list[Line] = []
        for number, user in enumerate([0, 1, 0, 2]):
            events, lines = listened(user, 3 * number)
            self.events += events
            self.lines += lines
        recommendations = {
            "recommendations.json": jsonl([{"user": user, "tracks": tracks} for user, tracks in LISTS.items()]),
            "top_tracks.json": json.dumps(TOP).encode(),
        }
        publish(self.storage / f"recommendations/date={DAY}", recommendations)
        np.save(self.storage / f"recommendations/date={DAY}/neighbours.npy", np.zeros((TRACKS, 20), np.uint32))
        files = {
            path.name: path.read_bytes()
            for path in (self.storage / f"recommendations/date={DAY}").iterdir()
            if path.name not in ("manifest.json", "_SUCCESS")
        }
        publish(self.storage / f"recommendations/date={DAY}", files)
        for kind, name, document in (
            ("reports", "report.json", {"decision": {"verdict": "promote"}}),
            ("gates", "gate.json", {"passed": True}),
            ("models", "card.json", {}),
            ("promotions", "promotion.json", {"verdict": "promoted", "version": VERSION, "reasons": [], "live": VERSION}),
        ):
            publish(self.storage / f"{kind}/date={DAY}", {name: json.dumps(document).encode()})
        self.experiment = [row for number, user in enumerate([3, 4]) for row in listened(user, 100 + 3 * number)[1]]
        self.write_experiment()
        self.history = History(
            tracks=TRACKS, exploration=0.0, events=self.events, unanswered=[], logs=self.logs, storage=self.storage,
            redis=Redis(
                Snapshot(1, VERSION),
                [Move("promote", "", VERSION, "cli-1")],
                dict(LISTS),
                [Lease(DAY, "cli-1", -3.0)],
                [Snapshot(1, VERSION)],
            ),
            digests={DAY: "d"}, expected={DAY: Reference("d", self.storage)},
            commands=[Ran(f"nightly --date {DAY}", 0, [], "fine", 1.0)], outputs={"service": "INFO"},
        )  # fmt: skip

    def write_experiment(self) -> None:
        files = {"run.json": json.dumps({"exploration": 0.0}).encode(), "0.jsonl": jsonl(self.experiment)}
        publish(self.storage / f"experiments/date={DAY}", files, {"next": 4, "last": 2})

    def violations(self) -> list[str]:
        live = self.logs / "live"
        live.mkdir(parents=True, exist_ok=True)
        (live / "2026-11-27-1-a-1.jsonl").write_bytes(jsonl(self.lines))
        return check(self.history)

    def document(self, name: str, **changed: object) -> None:
        """Change a document, its manifest with it."""
        path = self.storage / name
        publish(path.parent, {path.name: json.dumps(json.loads(path.read_bytes()) | changed).encode()})


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_history_that_keeps_the_contract(ground: Ground) -> None:
    assert ground.violations() == []


def test_what_the_contract_allows(ground: Ground) -> None:
    """A repeated line, a torn one, a retried answer without Redis, an interrupted command, a collector's lease."""
    ground.lines.append(dict(ground.lines[1]))
    without = line(ground.events[4], -1, 1, degraded=True, source="top100", propensity=0.5, recommendation=3)
    ground.lines.insert(3, without)
    ground.history.commands.append(Ran(f"nightly --date {DAY}", -9, [9], "", 1.0))
    ground.history.commands.append(Ran(f"nightly --date {DAY}", 143, [15], "", 1.0))
    ground.history.commands.append(Ran(f"nightly --date {DAY}", 5, [], "recsys: Redis is away", 1.0))
    ground.history.redis.leases.append(Lease("2026-01-01", "collector-9", 200.0))
    trash = ground.storage / ".trash" / "x"
    trash.mkdir(parents=True)
    (trash / "half").write_text("")
    ground.violations()
    with (ground.logs / "live" / "2026-11-27-1-a-2.jsonl").open("wb") as file:
        file.write(b'{"message":"ne')
    assert check(ground.history) == []


def test_a_night_that_was_held_honestly(ground: Ground, tmp_path: Path) -> None:
    undisturbed = Ground(tmp_path / "other")
    ground.history.expected = {DAY: Reference("another", undisturbed.storage)}
    reason = f"The live version moved to {VERSION} after this night began."
    ground.history.redis.moves = []
    ground.history.redis.pointer, ground.history.redis.snapshots = Snapshot(0, ""), []
    ground.document(f"promotions/date={DAY}/promotion.json", verdict="held", reasons=[reason])
    assert "undisturbed another" in ground.violations()[0]
    ground.history.redis.moves = [Move("promote", "", VERSION, "cli-1")]
    ground.history.redis.pointer = Snapshot(1, VERSION)
    assert [told for told in ground.violations() if told.startswith("digests")] == []
    ground.experiment[0]["time"] = 0.25
    ground.write_experiment()
    assert any("is not that of the undisturbed night" in told for told in ground.violations())


Doctor = Callable[[Ground], object]


def _set(rows: str, place: int, **changed: object) -> Doctor:
    return lambda ground: getattr(ground, rows)[place].update(changed) or ground.write_experiment()


def _event(place: int, **changed: object) -> Doctor:
    return lambda ground: ground.events[place].__dict__.update(changed)


def _redis(**changed: object) -> Doctor:
    return lambda ground: ground.history.redis.__dict__.update(changed)


def _ran(status: int, output: str, signals: list[int] | None = None) -> Doctor:
    return lambda ground: ground.history.commands.append(Ran("nightly", status, signals or [], output, 1.0))


def _write(name: str, content: bytes) -> Doctor:
    def write(ground: Ground) -> None:
        path = ground.storage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("doctor", "told"),
    [
        (lambda ground: ground.lines.pop(1), "answers: event e1 was answered"),
        (lambda ground: ground.lines.append(ground.lines[1] | {"session": 9_999}), "recorded at several places"),
        (lambda ground: ground.lines.append(ground.lines[1] | {"recommendation": 33}), "has several answers"),
        (lambda ground: ground.lines.append(ground.lines[1] | {"event": "phantom"}), "which nobody sent"),
        (_set("lines", 1, track=33), "was sent as next"),
        (_set("lines", 1, recommendation=33), "event e1 was answered"),
        (_event(1, tries=[500, 200]), r"status \[500\]"),
        (lambda ground: ground.history.unanswered.append(ground.events[1]), "got no answer although"),
        (_set("lines", 8, step=0), r"user 0 went from"),
        (_set("lines", 6, session=1000, step=3), "had left session 1000"),
        (
            lambda ground: (_set("lines", 1, recommendation=LISTS[0][1])(ground), _event(1, answer=LISTS[0][1])(ground)),
            "again in",
        ),
        (_set("lines", 1, propensity=1.5), "propensities: .* propensity 1.5"),
        (_set("lines", 1, propensity=0.4), "no number of candidates"),
        (_set("lines", 1, propensity=0.5), "it could have been one of"),
        (lambda ground: (_set("lines", 1, recommendation=33)(ground), _event(1, answer=33)(ground)), "it could have been one of"),
        (_set("experiment", 1, step=2), r"has steps \[0, 2"),
        (_set("experiment", 2, message="next"), "nights: "),
        (_set("experiment", 1, track=33), "33 played"),
        (_set("experiment", 1, propensity=0.25), "it could have been one of"),
        (_set("experiment", 1, degraded=True), "an answer without Redis"),
        (
            lambda ground: (ground.experiment.append(ground.experiment[1] | {"time": 0.1}), ground.write_experiment()),
            "two events",
        ),
        (lambda ground: (ground.experiment.__delitem__(slice(3, 6)), ground.write_experiment()), "its manifest says"),
        (_redis(pointer=Snapshot(2, VERSION)), "the trail ends with"),
        (_redis(moves=[Move("promote", "2026-01-04-0a1b2c3d", VERSION, "x")]), "began at 2026-01-04"),
        (_redis(moves=[Move("restore", "", VERSION, "x")]), "asked for by nobody"),
        (_redis(snapshots=[Snapshot(1, VERSION), Snapshot(0, "")]), "went back"),
        (_redis(snapshots=[Snapshot(1, "2026-01-04-0a1b2c3d")]), "the trail does not know"),
        (_redis(moves=[], pointer=Snapshot(0, ""), snapshots=[]), "the trail does not know it"),
        (lambda ground: ground.document(f"reports/date={DAY}/report.json", decision={"verdict": "hold"}), "its report says"),
        (lambda ground: ground.document(f"gates/date={DAY}/gate.json", passed=False), "its gate refused it"),
        (lambda ground: ground.document(f"promotions/date={DAY}/promotion.json", verdict="held"), "its night says"),
        (_redis(lists={user: tracks for user, tracks in LISTS.items() if user}), "in Redis or in the file alone"),
        (_redis(lists=LISTS | {1: LISTS[2]}), r"the lists of users \[1\]"),
        (_write(f"models/date={DAY}/card.json", b"{ }"), "is not what its manifest says"),
        (_write(f"models/date={DAY}/more.json", b"{}"), "tells other files"),
        (_write("models/date=2026-01-06/card.json", b"{}"), "has no manifest"),
        (_write("models/.staging-date=2026-01-06.0-1-1/card.json", b"{}"), "left of a writer"),
        (lambda ground: (ground.storage / f"models/date={DAY}/_SUCCESS").unlink(), "has no _SUCCESS"),
        (lambda ground: ground.history.seen.append("models/date=2026-01-05 without _SUCCESS"), "seen by halves"),
        (lambda ground: ground.history.digests.update({DAY: "e"}), "has digest e"),
        (lambda ground: ground.history.digests.clear(), "has no digest"),
        (_ran(1, "Traceback (most recent call last):\nrecsys: x"), "printed a traceback"),
        (_ran(5, "something"), "does not end with a line that says why"),
        (_ran(4, "recsys: damaged"), "recsys: damaged"),
        (_ran(6, "recsys: held by run x"), "held by run x"),
        (_ran(-9, ""), "status -9"),
        (lambda ground: ground.history.outputs.update(service="Traceback"), "service printed a traceback"),
        (lambda ground: ground.history.left.append("12: python"), "still running: 12"),
        (lambda ground: ground.history.redis.leases.append(Lease(DAY, "cli-1", 100.0)), "though its night has ended"),
        (lambda ground: ground.history.redis.leases.append(Lease(DAY, "collector-1", 400.0)), "for too long"),
    ],
)
def test_a_violation_is_found(ground: Ground, doctor: Doctor, told: str) -> None:
    import re

    doctor(ground)
    found = ground.violations()
    assert any(re.search(told, sentence) for sentence in found), found


def test_answers_without_redis_do_not_repeat(ground: Ground) -> None:
    ground.events += [Event(5, f"w{n}", False, 10 + n, 0.5, tries=[200], answered=True, answer=30) for n in range(2)]
    ground.lines += [
        line(event, -1, step, degraded=True, source="top100", propensity=0.5) for step, event in enumerate(ground.events[-2:])
    ]
    assert any("again without Redis" in told for told in ground.violations())


def test_what_redis_holds_beside_tracks_is_left_out() -> None:
    assert unpacked(struct.pack("<3I", 5, 6, 2**31 + 1)) == [5, 6]
