"""Reading sessions from logs: both formats, bad lines, repeats, broken assignments."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from recsys.abtest import queries
from recsys.abtest.queries import load
from recsys.abtest.sessions import log_files, read_log
from recsys.catalog import number_of
from recsys.exceptions import InvalidInputError, MissingDataError
from recsys.experiments import Arm, Experiment
from recsys.logs.reading import SMALL
from recsys.logs.record import NO_TRACK
from tests.support.traffic import lean, records, write

DESIGN = Experiment("X", (Arm("C", "contextual"), Arm("T1", "dae")))


def by_hand(rows: list[dict]) -> dict[int, tuple[int, int, float]]:
    """Sessions, plays and time of each user, one record after another."""
    found: dict[int, tuple[int, int, float]] = {}
    for row in rows:
        sessions, steps, time = found.get(row["user"], (0, 0, 0.0))
        found[row["user"]] = (sessions + (row["message"] == "last"), steps + 1, time + row["time"])
    return found


@pytest.mark.parametrize("form", [list, lean], ids=["nightshift", "original"])
def test_users_equal_a_count_by_hand(tmp_path: Path, form) -> None:
    rows = records(DESIGN)
    write(tmp_path / "a.jsonl", form(rows[: len(rows) // 2]))
    write(tmp_path / "b.jsonl", form(rows[len(rows) // 2 :]))
    found = read_log(tmp_path, "X", DESIGN, catalogue=500)
    expected = by_hand(rows)
    assert found.users["user"].tolist() == sorted(expected)
    for i, user in enumerate(found.users["user"].tolist()):
        assert (found.users["sessions"][i], found.users["steps"][i]) == expected[user][:2]
        assert found.users["time"][i] == pytest.approx(expected[user][2])
        assert found.arms[found.users["arm"][i]] == DESIGN.arm_of(user).name
    assert found.counts["sessions"] == 600 == len(found.sessions["time"])
    assert found.counts["next"] + found.counts["last"] == found.counts["events"] == len(rows)
    assert found.warnings == ()
    latency = [row["latency"] for row in rows if row["message"] == "next"]
    assert found.users["latency_ms"].sum() == pytest.approx(1000 * sum(latency))
    assert found.guardrails["C"]["repeat_share"] == 0.0
    assert (found.guardrails["C"]["degraded_share"] is None) == (form is lean)


def test_bad_lines_and_repeats_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = records(DESIGN)
    clean = read_log(write(tmp_path / "clean/a.jsonl", rows), "X")
    good = json.dumps(rows[0])
    bad = [
        "garbage",
        "[1, 2]",
        '{"message": "next"}',
        good[: len(good) // 2],
        good.replace('"time": 1.0', '"time": Infinity'),
        good.replace('"time": 1.0', '"time": NaN'),
        good.replace('"time": 1.0', '"time": 7.5'),
        good.replace('"message": "next"', '"message": "skip"'),
        good.replace(f'"user": {rows[0]["user"]}', '"user": 1.5'),
        good.replace(f'"user": {rows[0]["user"]}', '"user": "x"'),
    ]
    repeated = [{**row, "timestamp": row["timestamp"] + 9} for row in rows[5:12]]
    tail = "\n".join(bad) + "\n" + json.dumps({**rows[0], "user": 7, "session": 99})
    dirty = read_log(write(tmp_path / "dirty/a.jsonl", [*rows, *repeated], tail), "X")
    assert dirty.counts["malformed"] == len(bad) + 1
    assert dirty.counts["repeated"] == len(repeated)
    for name, column in clean.users.items():
        np.testing.assert_array_equal(column, dirty.users[name])


def test_two_tries_of_a_shard_count_once(tmp_path: Path) -> None:
    rows = records(DESIGN)
    write(tmp_path / "a.jsonl", rows)
    write(tmp_path / "b.jsonl", [{**row, "run": "night.0.b"} for row in rows[:100]])
    found = read_log(tmp_path, "X")
    assert found.counts["repeated"] == 100
    assert found.counts["sessions"] == 600


def test_sessions_without_an_end_or_with_holes_are_left_out(tmp_path: Path) -> None:
    rows = records(DESIGN)
    first = [i for i, row in enumerate(rows) if row["message"] == "last"][:2]
    holed = [row for i, row in enumerate(rows) if i not in (first[0], first[1] - 1)]
    found = read_log(write(tmp_path / "a.jsonl", holed), "X")
    assert found.counts["unfinished_sessions"] == 2
    assert found.counts["sessions"] == 598


def test_a_user_in_two_arms_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = records(DESIGN)
    user = rows[0]["user"]
    other = {"C": "T1", "T1": "C"}[DESIGN.arm_of(user).name]
    rows[0] = {**rows[0], "experiments": {"X": other}}
    found = read_log(write(tmp_path / "a.jsonl", rows), "X", DESIGN)
    assert found.counts["users_in_two_arms"] == 1
    assert user not in found.users["user"]


def test_arms_are_compared_with_the_hash(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", records(DESIGN))
    salted = Experiment("X", DESIGN.arms, salt="other")
    assert read_log(path, "X", DESIGN).counts["misassigned"] == 0
    wrong = read_log(path, "X", salted)
    assert wrong.counts["misassigned"] > 50
    assert any("assignment hash" in warning for warning in wrong.warnings)


def test_tracks_that_the_service_did_not_know_are_told_apart(tmp_path: Path) -> None:
    rows = records(DESIGN)
    unknown = [row | {"track": NO_TRACK, "track_id": f"song {row['track']}"} for row in rows]
    both = [read_log(write(tmp_path / f"{name}.jsonl", part), "X") for name, part in (("a", rows), ("b", unknown))]
    assert both[1].guardrails["C"]["repeat_share"] == both[0].guardrails["C"]["repeat_share"] == 0.0
    again = [row | {"track_id": "one"} for row in unknown]
    assert read_log(write(tmp_path / "c.jsonl", again), "X").guardrails["C"]["repeat_share"] > 0.5


def named(user: int) -> str:
    return f"listener \u00e9 {user}"


@pytest.mark.parametrize("form", ["nightshift", "original"])
def test_users_who_are_texts_are_dealt_by_their_texts(tmp_path: Path, form: str) -> None:
    """Nightshift logs a number beside the text; others' logs hold the text alone."""
    rows = records(DESIGN)
    for row in rows:
        if row["user"] % 2:
            text = named(row["user"])
            row |= {"user": number_of(text), "user_id": text, "experiments": {"X": DESIGN.arm_of(text).name}}
    expected = by_hand(rows)
    if form == "original":
        rows = [
            row | {"user": text} for row, text in zip(lean(rows), [row.get("user_id", row["user"]) for row in rows], strict=True)
        ]
    found = read_log(write(tmp_path / "a.jsonl", rows), "X", DESIGN)
    assert found.users["user"].tolist() == sorted(expected)
    assert found.users["steps"].tolist() == [expected[user][1] for user in sorted(expected)]
    assert found.counts["misassigned"] == found.counts["malformed"] == 0
    for row in rows:
        row["experiments"] = {"X": "T1"}
    arms = [DESIGN.arm_of(named(user) if user % 2 else user).name for user in by_hand(records(DESIGN))]
    assert read_log(write(tmp_path / "b.jsonl", rows), "X", DESIGN).counts["misassigned"] == arms.count("C")


def test_a_text_that_is_no_user_s_is_malformed(tmp_path: Path) -> None:
    rows = lean(records(DESIGN))
    for text in ("", "x" * 129, "\u00e9" * 65):
        rows.append(rows[0] | {"user": text})
    rows += [rows[0] | {"user": odd} for odd in (None, 1.5, ["a"], {"a": 1}, True)]
    counts = read_log(write(tmp_path / "a.jsonl", rows), "X").counts
    assert (counts["malformed"], counts["events"]) == (8, len(rows) - 8)
    # "7" is 7.
    texts = [row | {"user": str(row["user"])} for row in lean(records(DESIGN))]
    both = [read_log(write(tmp_path / f"{name}/a.jsonl", part), "X") for name, part in (("n", rows), ("t", texts))]
    assert both[0].users["user"].tolist() == both[1].users["user"].tolist()


def test_a_clock_that_goes_backwards_is_told_and_changes_nothing(tmp_path: Path) -> None:
    rows = records(DESIGN)
    clean = read_log(write(tmp_path / "a/a.jsonl", rows), "X")
    turned = [{**row, "timestamp": row["timestamp"] - (5000 if row["step"] == 1 else 0)} for row in rows]
    found = read_log(write(tmp_path / "b/a.jsonl", turned), "X")
    assert found.counts["clock_backwards"] > 500
    np.testing.assert_array_equal(found.users["time"], clean.users["time"])


def test_guardrails_count_what_the_log_says(tmp_path: Path) -> None:
    rows = records(DESIGN)
    for i, row in enumerate(rows):
        row["source"] = "top100" if i % 2 else "exploration"
        row["degraded"] = True
        row["track"] = row["recommendation"] = 3
    found = read_log(write(tmp_path / "a.jsonl", rows), "X", catalogue=500).guardrails["T1"]
    assert found["fallback_share"] == pytest.approx(0.5, abs=0.05)
    assert found["fallback_share"] + found["exploration_share"] == pytest.approx(1)
    assert found["degraded_share"] == 1.0
    assert found["coverage_tracks"] == 1
    assert found["coverage_share"] == 1 / 500
    assert found["repeat_share"] > 0.7


def test_answers_without_redis_are_neither_lost_nor_unseen(tmp_path: Path) -> None:
    rows = records(DESIGN)
    clean = read_log(write(tmp_path / "clean/a.jsonl", rows), "X")
    alone = [{**row, "session": -1, "degraded": True} for row in rows if row["message"] == "next"][:100]
    found = read_log(write(tmp_path / "a.jsonl", [*rows, *alone]), "X")
    assert (found.counts["degraded"], found.counts["malformed"]) == (100, 0)
    assert {**found.counts, "degraded": 0} == clean.counts
    np.testing.assert_array_equal(found.users["time"], clean.users["time"])
    for arm in ("C", "T1"):
        count = sum(row["experiments"]["X"] == arm for row in alone)
        answers = sum(row["experiments"]["X"] == arm for row in rows if row["message"] == "next")
        assert found.guardrails[arm]["degraded_share"] == pytest.approx(count / (count + answers))


def test_an_unknown_experiment_is_an_error_that_names_the_known(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", records(DESIGN, sessions=20))
    with pytest.raises(InvalidInputError, match="'Y'; they hold 'X'"):
        read_log(path, "Y")


@pytest.mark.parametrize("content", ["", "\n\n", "garbage\n", '{"message": "next"'])
def test_logs_without_a_usable_record_are_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(InvalidInputError, match="no usable record"):
        read_log(tmp_path, "X")


def test_files_are_found_by_name(tmp_path: Path) -> None:
    for name in ("a.jsonl", "data.json", "b.log.1", "run.json", "manifest.json", "notes.txt", "sub/c.jsonl.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [p.name for p in log_files(tmp_path)] == ["a.jsonl", "b.log.1", "data.json", "c.jsonl.gz"]
    with pytest.raises(MissingDataError, match="does not exist"):
        log_files(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MissingDataError, match="no log files"):
        log_files(empty)


def test_small_files_are_read_as_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = records(DESIGN)
    lines = [json.dumps(row) + "\n" for row in rows]
    for number, line in enumerate(lines[:300]):
        (tmp_path / f"{number:04}.jsonl").write_text(line + ("{" if number % 100 == 0 else ""))
    (tmp_path / "0150a.jsonl").write_text("".join(lines[300:]))
    (tmp_path / "0150b.jsonl").write_text("")
    assert (tmp_path / "0150a.jsonl").stat().st_size > SMALL
    opened = []
    monkeypatch.setattr(queries, "load", lambda db, files, *words: opened.append(files) or load(db, files, *words))
    found = read_log(tmp_path, "X")
    assert [len(files) for files in opened] == [3]
    assert (found.counts["events"], found.counts["malformed"]) == (len(rows), 3)


def test_compressed_logs_are_read(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain/a.jsonl", records(DESIGN, sessions=50))
    packed = tmp_path / "packed/a.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_log(packed, "X").counts == read_log(plain, "X").counts
