"""Draws and propensities against plain statements of them."""

import struct
from collections import Counter

import mmh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.service.choose import Candidates, Choice, Stock, explore, request_hash, unplayed

SIZE = 12


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**20), st.integers(0, 2**20), st.integers(0, 2**31 - 1), st.integers(0, 70))
def test_users_of_32_bits_are_hashed_as_they_always_were(user: int, session: int, step: int, track: int, purpose: int) -> None:
    data = struct.pack("<5I", user, session, step, track, purpose)
    assert request_hash(7, user, session, step, track)(purpose) == mmh3.hash(data, 7, signed=False)


def test_all_bits_of_a_user_count() -> None:
    users = [3 + (1 << bit) for bit in range(33, 63)] + [3]
    assert len({request_hash(7, user, 0, 0, 1)(0) for user in users}) == len(users)


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.integers(0, SIZE - 1), max_size=SIZE - 2),
    st.sets(st.integers(0, SIZE + 3), min_size=1, max_size=SIZE),
    st.lists(st.integers(0, SIZE - 1), max_size=5, unique=True),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 2**63 - 1),
)
def test_what_is_answered_can_be_and_propensities_sum_to_one(
    retired: set[int], played: set[int], listed: list[int], epsilon: float, user: int
) -> None:
    stock = Stock.of(SIZE, frozenset(retired)).without({SIZE + 1})
    possible = set(range(SIZE)) - retired - played
    greedy = Candidates([track for track in listed if track in possible], "list")
    found = {}
    for session in range(300):
        choice = explore(greedy, epsilon, stock, played, request_hash(7, user, session, 0, 1))
        assert choice.track in possible or (not possible and choice.track not in retired)
        assert found.setdefault(choice.track, choice.propensity) == choice.propensity
    if possible and (epsilon > 0 or greedy.tracks):
        assert sum(found.values()) == pytest.approx(1.0)


def test_exploration_is_uniform_over_what_is_available_and_unplayed() -> None:
    stock = Stock.of(1000, frozenset(range(4, 1000)))
    draws = Counter(unplayed(stock, {1, 500}, request_hash(7, 1, session, 0, 1)) for session in range(3000))
    assert set(draws) == {0, 2, 3}
    assert min(draws.values()) > 900
    assert explore(Candidates((), "top100"), 0.0, stock, {1, 500}, request_hash(7, 1, 0, 0, 1)) == Choice(
        unplayed(stock, {1, 500}, request_hash(7, 1, 0, 0, 1)), "top100", 1 / 3
    )


def test_once_all_have_been_played_any_available_track_comes() -> None:
    stock = Stock.of(5, frozenset({2}))
    assert {unplayed(stock, set(range(5)), request_hash(7, 1, session, 0, 1)) for session in range(200)} == {0, 1, 3, 4}
    assert stock.left(set(range(5))) == 1
