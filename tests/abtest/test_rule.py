"""The promotion rule as a file."""

from pathlib import Path

import pytest

from recsys.abtest.metrics import GUARDRAILS
from recsys.abtest.rule import PromotionRule, load_rule
from recsys.exceptions import InvalidInputError

COMMITTED = Path(__file__).resolve().parents[2] / "config" / "promotion.yml"


def test_the_committed_file_says_the_defaults() -> None:
    committed = load_rule(COMMITTED)
    assert committed.model_dump(exclude={"guardrails"}) == PromotionRule().model_dump(exclude={"guardrails"})
    assert committed.limited() == GUARDRAILS == load_rule(None).limited()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("margin: 2", "margin is 2"),
        ("margn: 0.1", "margn"),
        ("guardrails: {speed: {at_most: 1}}", "speed is none of repeat_share"),
        ("guardrails: {repeat_share: {most: 1}}", "guardrails.repeat_share.most"),
        ("guardrails: {fallback_share: {at_most: 0.05}}", "fallback_share is tested against the live version or the control"),
        ("guardrails: {latency_p99: {at_most: 50}}", "give margin"),
        ("guardrails: {repeat_share: {margin: 0.1}}", "repeat_share is a fault whoever else has it"),
        ("guardrails: {exploration_share: {margin: 0.1}}", "is drawn on purpose"),
        ("[1, 2]", "the file"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "promotion.yml"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        load_rule(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_rule(tmp_path / "none.yml")
