"""A night's digest: what counts towards it, and what two equal nights may differ in."""

from datetime import date
from pathlib import Path

from recsys.inspection.verify import _without_times, verify
from recsys.night.catalogue import checksum_of, dated
from recsys.night.night import Night
from recsys.night.report import build_refused_report
from tests.support.documents import card, gate, inputs, night_of, publish, verdict
from tests.support.open_world import write_catalogue

DAY = date(2026, 1, 2)


def refused(root: Path, **of_the_card: str) -> Night:
    """A night that the gate ended."""
    night = night_of(root, DAY)
    trained = card(DAY).model_copy(update=of_the_card)
    for document in (inputs(DAY), trained, gate(passed=False), verdict("gate_refused", "", "")):
        publish(night.store, DAY, document)
    build_refused_report(night)
    return night


def test_the_code_of_the_models_is_no_part_of_it(tmp_path: Path) -> None:
    found = verify(refused(tmp_path / "a"))
    assert not found.failures
    assert "models/card.json" in found.parts
    assert verify(refused(tmp_path / "b", code="another commit", fingerprint="another")).digest == found.digest
    assert verify(refused(tmp_path / "c", data="other plays")).digest != found.digest


def test_what_a_night_went_through_is_no_part_of_it() -> None:
    undisturbed = {"counts": {"repeated": 0, "clock_backwards": 0, "next": 5}, "warnings": []}
    told = ["142 repeated records were dropped.", "1 session has a clock that goes backwards."]
    assert _without_times({"counts": {"repeated": 142, "clock_backwards": 1, "next": 5}, "warnings": told}) == undisturbed
    lost = ["1 malformed or unterminated line was dropped."]
    assert _without_times({"counts": undisturbed["counts"], "warnings": [*told, *lost]}) == undisturbed | {"warnings": lost}


def test_the_catalogue_must_be_the_one_that_the_night_has_read(tmp_path: Path) -> None:
    night = refused(tmp_path)
    world = write_catalogue(night.world, 30)
    told = dated(night).tracks
    before = verify(night)
    publish(night.store, DAY, inputs(DAY, catalogue=checksum_of(night)))
    found = verify(night)
    assert (told, found.failures, found.digest) == (30, [], before.digest)
    assert "catalogue: every file matches its checksum, and is what the night has read" in found.checks
    night.store.remove(night.catalogue)
    assert any(f"catalogue/date={DAY} is not in" in failure for failure in verify(night).failures)
    write_catalogue(world, 31)
    dated(night)
    assert verify(night).failures == ["catalogue: every file matches its checksum, and is what the night has read"]
