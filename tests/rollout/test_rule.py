"""The rule of rollouts: what a file says, and what it may not say."""

from pathlib import Path

import pytest

from recsys.exceptions import InvalidInputError
from recsys.rollout.rule import RolloutRule, load_rule


def test_the_file_holds_the_defaults() -> None:
    assert load_rule(Path("config/rollout.yml")) == load_rule(None) == RolloutRule()


def test_margins_of_shares_that_no_stage_has() -> None:
    assert [RolloutRule().margin_of(share) for share in (0.5, 1, 4, 5, 60)] == [0.5, 0.5, 0.5, 0.15, 0.05]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stages: []", "stages"),
        ("stages: [{share: 5}, {share: 1}, {share: 100}]", "must ascend and end with 100, not 5, 1, 100"),
        ("stages: [{share: 5}]", "must ascend and end with 100, not 5"),
        ("stages: [{share: 0}, {share: 100}]", "stages.0.share is 0"),
        ("stages: [{share: 1, margin: 1}, {share: 100}]", "stages.0.margin is 1"),
        ("stages: [{share: 1, margn: 0.1}, {share: 100}]", "margn"),
        ("least_hours: 80", "least_hours 80 must not be above longest_hours 72"),
        ("level: 0.5", "level is 0.5"),
        ("level: 1e-300", "level is '1e-300'"),
        ("stages: [{share: 1, margin: -0.1}, {share: 100}]", "stages.0.margin is -0.1"),
        ("stages: [{share: .nan}, {share: 100}]", "stages.0.share is nan"),
        ("stages: [{share: 99.9999999}, {share: 100}]", "share 99.9999999 has more than three decimals"),
        ("longest_hours: .inf", "longest_hours is inf"),
        ("least_hours: .nan", "least_hours is nan"),
        ("planned_users: 1" + "0" * 400, "planned_users is 1000"),
        ("least_users: 3", "least_users is 3"),
        ("guardrails: {fallback_share: 2}", "guardrails.fallback_share is 2"),
        ("guardrails: {fallback_share: .nan}", "guardrails.fallback_share is nan"),
        ("guardrails: {errors: 0.1}", "errors"),
        ("- 1", "the file"),
        ("hours: 2", "hours"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "rollout.yml"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match="rollout") as error:
        load_rule(path)
    assert named in str(error.value)
