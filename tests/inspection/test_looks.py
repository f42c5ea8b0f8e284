"""The picture of looks: stages and their margins side by side, what tells nothing left out, what is far off cut."""

from datetime import UTC, datetime, timedelta
from typing import Any

from recsys.inspection.looks import looks_picture
from recsys.rollout.look import Look

BEGAN = datetime(2026, 1, 6, 9, tzinfo=UTC)


def look(hour: int, stage: int, low: float | None, high: float | None, margin: float | None, action: str = "stay") -> Look:
    effect = None if low is None or high is None else (low + high) / 2
    when: dict[str, Any] = {"at": BEGAN + timedelta(hours=hour), "since": BEGAN}
    where: dict[str, Any] = {"experiment": f"X-{stage}", "stage": stage, "share": 5.0 * stage}
    found: dict[str, Any] = {"effect": effect, "low": low, "high": high, "margin": margin, "action": action, "reason": "r"}
    return Look(**when, **where, **found)


def test_a_rollout_is_drawn_stage_by_stage() -> None:
    looks = [look(1, 1, None, None, 0.5), look(2, 1, -0.9, 3.0, 0.5, "advance"), look(3, 2, -0.4, -0.2, 0.1, "abort")]
    picture = looks_picture(looks)
    assert picture
    assert picture.title == "Effect on session time against live, 3 looks"
    assert picture.told.endswith("01-06 12:00, 10 % of listeners: −30.0 % (−40.0 % to −20.0 %), abort.")
    assert "01-06 10:00, 5 % of listeners: no telling yet, stay" in picture.told
    nothing, far, last = picture.spots
    assert (nothing.low, nothing.high, nothing.effect) == (None, None, None)
    # What is far off ends where the picture does; a loss is drawn below no effect.
    assert (far.low, far.high) == (picture.bottom, picture.top)
    (zero,) = [y for y, _, is_zero in picture.ticks if is_zero]
    assert last.low is not None
    assert last.high is not None
    assert last.effect is not None
    assert last.low > last.effect > last.high > zero
    first, second = picture.stages
    assert (first.left, first.right, second.right) == (picture.left, second.left, picture.right)
    assert (first.share, second.share) == ("5 %", "10 %")
    assert first.margin is not None
    assert second.margin is not None
    assert first.margin > second.margin > zero
    assert max(x for x, _ in picture.times) < picture.right - 20


def test_what_has_told_nothing_is_not_drawn_and_a_look_of_an_earlier_version_has_no_margin() -> None:
    assert looks_picture([]) is None
    assert looks_picture([look(1, 1, None, None, 0.5)]) is None
    picture = looks_picture([look(hour, 1, -0.1, 0.1, None) for hour in range(500)])
    assert picture
    assert picture.stages[0].margin is None
    assert len(picture.spots) < 500
