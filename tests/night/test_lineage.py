"""What a finished night tells an OpenLineage backend: a file here, and one that is away."""

import json
import logging
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from recsys.night import lineage
from recsys.night.night import Night
from recsys.storage.layout import Dated
from tests.support.components import free_port
from tests.support.documents import gate, inputs, night_of, publish, verdict

DAY, LIVE = date(2026, 1, 5), "2026-01-04-0a1b2c3d"
LOGS = [Dated.LOGS.on(date(2026, 1, day)) for day in (4, 5)]


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """A night whose logs, lists and live version stand there as far as the lineage looks."""
    night = night_of(tmp_path, DAY)
    for name in LOGS:
        with night.store.stage(name) as staging:
            (staging / "0.jsonl").write_text(name)
    for day, version in ((date(2026, 1, 4), LIVE), (DAY, "2026-01-05-11111111")):
        with night.store.stage(Dated.RECOMMENDATIONS.on(day), labels={"version": version}) as staging:
            (staging / "recommendations.json").write_text(version)
    publish(night.store, DAY, inputs(DAY, LIVE, logs={name: night.store.manifest(name).checksum for name in LOGS}))
    publish(night.store, DAY, gate())
    return night


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which events are appended."""
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps({"type": "file", "log_file_path": str(path), "append": True}))
    return path


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def versions(night: Night, datasets: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Version and digest by the name of a directory."""
    assert {dataset["namespace"] for dataset in datasets} == {"file"}
    root = night.store.url.removeprefix("file://")
    return {
        dataset["name"].removeprefix(f"{root}/"): (
            dataset["facets"]["version"]["datasetVersion"],
            dataset["facets"]["tags"]["tags"][0]["value"],
        )
        for dataset in datasets
    }


def test_inputs_and_outputs_have_their_version_and_digest(night: Night, told: Path) -> None:
    decided = verdict("promoted", "2026-01-05-11111111")
    publish(night.store, DAY, decided)
    lineage.tell(night, decided, "first")
    lineage.tell(night, decided, "first")
    lineage.tell(night, decided, "second")
    first, again, second = events(told)
    assert first["run"]["runId"] == again["run"]["runId"] != second["run"]["runId"]
    assert first["eventType"] == "COMPLETE"
    assert (first["job"]["namespace"], first["job"]["name"]) == ("nightshift", "nightly_recommender")
    assert first["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-01-05T00:00:00+00:00"
    tags = {tag["key"]: tag["value"] for tag in first["run"]["facets"]["tags"]["tags"]}
    assert tags.items() >= {"run": "first", "verdict": "promoted", "version": "2026-01-05-11111111"}.items()

    def digest(name: str) -> str:
        return night.store.manifest(name).checksum

    lists = Dated.RECOMMENDATIONS.on(date(2026, 1, 4))
    assert versions(night, first["inputs"]) == {
        **{name: (digest(name), f"sha256:{digest(name)}") for name in LOGS},
        lists: (LIVE, f"sha256:{digest(lists)}"),
    }
    written = versions(night, first["outputs"])
    assert list(written) == [kind.on(DAY) for kind in (Dated.INTERACTIONS, Dated.GATES, Dated.RECOMMENDATIONS, Dated.PROMOTIONS)]
    assert written[Dated.RECOMMENDATIONS.on(DAY)][0] == "2026-01-05-11111111"


def test_a_refused_night_has_not_written_the_lists_of_an_earlier_one(night: Night, told: Path) -> None:
    lineage.tell(night, verdict("gate_refused", "", LIVE), "first")
    (event,) = events(told)
    assert list(versions(night, event["outputs"])) == [Dated.INTERACTIONS.on(DAY), Dated.GATES.on(DAY)]


def test_lists_whose_files_are_gone_are_left_out(night: Night, told: Path) -> None:
    night.store.remove(Dated.RECOMMENDATIONS.on(date(2026, 1, 4)))
    lineage.tell(night, verdict("held", "2026-01-05-11111111", LIVE), "first")
    assert list(versions(night, events(told)[0]["inputs"])) == LOGS


def test_a_backend_that_is_away_disturbs_no_night(
    night: Night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps({"type": "http", "url": url, "retry": {"total": 0}}))
    with caplog.at_level(logging.WARNING):
        lineage.tell(night, verdict("held", "2026-01-05-11111111", LIVE), "first")
    assert "the lineage of the night of 2026-01-05 was not told" in caplog.text


def test_nobody_is_told_who_does_not_ask(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "")
    monkeypatch.setattr(lineage, "event_of", lambda *_: pytest.fail("an event was made"))
    lineage.tell(night, verdict("held", "2026-01-05-11111111", LIVE), "first")
