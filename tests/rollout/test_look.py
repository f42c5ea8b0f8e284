"""A look: the same evidence gives the same answer, and each answer has its reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from recsys.rollout.look import Evidence, Look, Looks, Moments, look
from recsys.rollout.rule import RolloutRule
from recsys.versions.rollout import Rollout

BEGAN = datetime(2026, 1, 5, tzinfo=UTC)
NOW = Rollout("2026-01-05-0a1b2c3d", "2026-01-05", "live", "serving", 2, 5.0, "X-2", BEGAN, BEGAN, 2)
RULE = RolloutRule()


def times(mean: float, users: int, spread: float = 1.0) -> Moments:
    return Moments(users=users, mean=mean, variance=spread * mean * mean)


def seen(candidate: float, users: int = 2000, **more: object) -> Evidence:
    found = {"live": times(3.0, 19 * users), "candidate": times(candidate, users), "dealt": (19 * users, users), **more}
    return Evidence.model_validate(found)


def after(hours: float, evidence: Evidence, now: Rollout = NOW, rule: RolloutRule = RULE) -> Look:
    return look(now, evidence, rule, BEGAN + timedelta(hours=hours))


@pytest.mark.parametrize(
    ("hours", "candidate", "users", "action", "said"),
    [
        (3, 3.0, 2000, "advance", "a loss of 15 % is excluded"),
        (1, 3.0, 2000, "stay", "is excluded, but a stage lasts 2 hours"),
        (1, 2.4, 2000, "abort", "it is worse: at best"),
        (3, 3.0, 400, "stay", "a loss of 15 % is not excluded yet: at worst"),
        (72, 3.0, 400, "hold", "could not be excluded in 72 hours"),
        (3, 0.1, 99, "stay", "no telling yet (99 listeners on the candidate, 1,881 on live)"),
        (72, 0.1, 99, "hold", "no telling yet"),
        (100, 3.0, 2000, "advance", "excluded"),
    ],
)
def test_what_follows(hours: float, candidate: float, users: int, action: str, said: str) -> None:
    found = after(hours, seen(candidate, users))
    assert (found.action, said in found.reason) == (action, True), found.reason
    assert after(hours, Evidence.model_validate_json(found.evidence.model_dump_json())) == found


def test_without_any_evidence_it_stays_and_is_held_in_the_end() -> None:
    assert after(3, Evidence()).action == "stay"
    assert after(72, Evidence()).action == "hold"


def test_a_held_rollout_goes_on_by_a_person_alone_but_harm_ends_it() -> None:
    held = replace(NOW, state="held")
    assert after(100, seen(3.0), held).action == "stay"
    assert after(100, seen(2.4), held).action == "abort"


@pytest.mark.parametrize(
    ("name", "share", "action"),
    [
        ("fallback_share", 1.0, "abort"),
        ("fallback_share", 0.04, "advance"),
        ("degraded_share", 0.5, "abort"),
        ("unanswered_share", 0.2, "abort"),
        ("unanswered_share", 0.0, "advance"),
    ],
)
def test_a_guardrail_that_breaks_ends_it_at_once(name: str, share: float, action: str) -> None:
    both = Moments(users=38_000, mean=0.0, variance=0.0), Moments(users=2000, mean=share, variance=share * (1 - share))
    found = after(3, seen(3.0, troubles={name: both}))
    assert (found.action, "which is surely more than" in found.reason) == (action, action == "abort")


def test_few_listeners_with_trouble_end_nothing() -> None:
    both = Moments(users=1881, mean=0.0, variance=0.0), Moments(users=99, mean=1.0, variance=0.0)
    assert after(3, seen(3.0, 99, troubles={"fallback_share": both})).action == "stay"


@pytest.mark.parametrize(
    ("dealt", "action"), [((40_000, 0), "abort"), ((38_000, 2060), "advance"), ((1000, 900), "abort"), ((30, 0), "advance")]
)
def test_a_candidate_that_does_not_answer_breaks_the_split(dealt: tuple[int, int], action: str) -> None:
    assert after(3, seen(3.0, dealt=dealt)).action == action


def test_looks_are_kept_in_order_and_once() -> None:
    first, second = after(1, seen(3.0)), after(2, seen(3.0, 500))
    kept = Looks().with_one(second).with_one(first).with_one(second)
    assert kept.looks == (first, second)
    assert Looks.parse(kept.to_json(), "looks") == kept
