"""A plan is a pure function of seed and number, and says everything that is to happen."""

import pytest

from tests.nemesis.plan import DAY, HDFS_KINDS, KINDS, draw

NUMBERS = range(300)


def test_the_same_seed_and_number_give_the_same_plan() -> None:
    assert [str(draw(7, number)) for number in NUMBERS] == [str(draw(7, number)) for number in NUMBERS]
    assert draw(7, 3) != draw(8, 3)
    assert draw(7, 3) != draw(7, 4)


def test_a_plan_is_what_it_has_always_been() -> None:
    """A seed that found something must find it on every machine, in years."""
    assert str(draw(1, 2)).splitlines() == [
        "night 2 of seed 1: items, both",
        "  nightly 2026-01-05 beside nightly 2026-01-06",
        "  1 shards, batch 0, 3 workers, 4 listeners (exploration 0.0), clock False",
        "  valkey.kill 3.10 s after the begin, for 3.48 s, draw 0.538",
        "  redis.lose 4.13 s after the begin, for 0.00 s, draw 0.607",
    ]


def test_every_kind_of_fault_and_every_order_is_drawn() -> None:
    plans = [draw(1, number) for number in NUMBERS]
    assert {fault.kind for plan in plans for fault in plan.faults} == set(KINDS)
    assert {plan.order for plan in plans} == {"one", "sequence", "both", "twice"}
    assert all(1 <= len(plan.faults) <= 6 for plan in plans)
    assert all(plan.clock for plan in plans if any(fault.kind == "clock.step" for fault in plan.faults))
    remote = {fault.kind for number in NUMBERS for fault in draw(1, number, hdfs=True).faults}
    assert remote == (set(KINDS) | set(HDFS_KINDS)) - {"disk.storage"}


@pytest.mark.parametrize("number", range(40))
def test_a_script_plays_the_traffic_that_its_nights_read(number: int) -> None:
    plan = draw(1, number)
    played = {command.log_date for command in plan.preparation}
    for step in plan.nights:
        for command in step:
            if command.name == "nightly":
                assert len([day for day in played if (command.log_date - day).days in range(plan.scene.window)]) >= 2
                assert command.log_date in played
        played |= {command.log_date for command in step if command.name == "traffic"}
    assert DAY in played
    assert (plan.commands[0] == [plan.preparation[0]]) == plan.traffic
