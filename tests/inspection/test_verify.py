"""A night's digest: what counts towards it, and what two equal nights may differ in."""

from datetime import date
from pathlib import Path

from recsys.inspection.verify import verify
from recsys.night.night import Night
from recsys.night.report import build_refused_report
from tests.support.documents import card, gate, inputs, night_of, publish, verdict

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
