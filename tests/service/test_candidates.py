"""What arms offer: to listeners whom a version knows, to newcomers, and in a catalogue that has changed since."""

from array import array

import pytest

from recsys.experiments import Arm
from recsys.service.candidates import candidates
from recsys.service.choose import Candidates, Stock
from recsys.service.session import SessionChooser
from recsys.service.state import NEWCOMERS, Version
from recsys.service.world import Neighbours
from recsys.versions import keyspace
from tests.service.test_session import lists

SIZE = 300
STOCK = Stock.of(SIZE)
TOP = range(100)
NEAR = array("I", ((track + k + 1) % SIZE for track in range(SIZE) for k in range(20)))
CHOOSER = SessionChooser(lists(rows=4, width=30, size=SIZE))
WHOLE = Version("v", TOP, NEAR, sessions=CHOOSER)
PLAIN = Version("v", TOP, NEAR)
NOBODY, LISTED = array("I"), array("I", range(200, 250))
ARMS = {name: Arm(name, name) for name in ("dae", "session", "contextual", "top100")}


def offer(arm: str | None, version: Version, plays: list[int], listed: array = NOBODY, **more: object) -> Candidates:
    heard = [number for track in plays for number in (track, 5000)]
    return candidates(ARMS[arm] if arm else None, version, listed, heard, set(plays), **({"stock": STOCK} | more))


@pytest.mark.parametrize("arm", ["dae", "session", None])
def test_a_newcomer_is_answered_by_the_sessions_first_track(arm: str | None) -> None:
    best = CHOOSER.best([5, 5000, 9, 5000], {5, 9})
    assert best is not None
    assert offer(arm, WHOLE, [5, 9]) == Candidates(best.tracks, "newcomer_session")


@pytest.mark.parametrize("arm", ["dae", "session", None])
def test_a_newcomer_is_answered_by_the_previous_track_then_from_the_top(arm: str | None) -> None:
    assert offer(arm, PLAIN, [5, 7, 6]) == Candidates(list(range(8, 27)), "newcomer_contextual")
    heard = [*range(6, 26), 5]
    assert offer(arm, PLAIN, heard) == Candidates([t for t in TOP if t not in heard], "newcomer_top100")
    assert offer(arm, PLAIN, [*TOP, *range(100, 260), 120]) == Candidates((), "newcomer_top100")


def test_where_a_newcomer_begins_can_be_set() -> None:
    assert offer("dae", WHOLE, [5], newcomers=NEWCOMERS[1:]).source == "newcomer_contextual"
    assert offer("dae", WHOLE, [5], newcomers=NEWCOMERS[2:]).source == "newcomer_top100"


def test_the_arms_that_want_no_list_keep_their_meaning() -> None:
    assert offer("contextual", WHOLE, [5]) == Candidates(list(range(6, 26)), "contextual")
    assert offer("top100", WHOLE, [5]).source == "top100"


def test_who_has_a_list_is_no_newcomer() -> None:
    assert offer("dae", WHOLE, [5], LISTED) == Candidates((200,), "dae")
    assert offer("session", WHOLE, [5], LISTED).source == "session"
    assert offer("session", WHOLE, [5], keyspace.unpack(keyspace.pack_taste([1, 2]))).source == "session"
    assert offer("dae", WHOLE, [*range(200, 250)], LISTED).source == "top100"


def test_before_a_version_is_live_nobody_is_a_newcomer() -> None:
    assert offer("dae", Version("", TOP), [5]).source == "top100"


@pytest.mark.parametrize("arm", [*ARMS, None])
@pytest.mark.parametrize("listed", [NOBODY, LISTED], ids=["newcomer", "known"])
def test_what_is_barred_is_never_offered(arm: str | None, listed: array) -> None:
    heard, barred = [5], frozenset[int]()
    for _ in range(SIZE):
        found = offer(arm, WHOLE, heard, listed, stock=Stock.of(SIZE, barred))
        assert not barred & set(found.tracks)
        if not found.tracks:
            break
        barred |= {found.tracks[0]}
    assert not found.tracks


@pytest.mark.parametrize("arm", [*ARMS, None])
@pytest.mark.parametrize("listed", [NOBODY, LISTED], ids=["newcomer", "known"])
def test_tracks_that_a_version_does_not_know_harm_nobody(arm: str | None, listed: array) -> None:
    for plays in ([SIZE], [SIZE, 5], [5, SIZE], [2**31 - 1, 5, 2**31 - 1]):
        found = offer(arm, WHOLE, plays, listed, stock=Stock.of(SIZE + 10))
        assert found.tracks
        assert not set(plays) & set(found.tracks)


def test_the_worlds_own_neighbours_serve_where_a_version_has_none() -> None:
    world = Neighbours({5: array("I", [7, 8, 9]), 300: array("I", [1])})
    assert offer("contextual", Version("v", TOP, others=world), [5]) == Candidates([7, 8, 9], "contextual")
    both = Version("v", TOP, NEAR, others=world)
    assert offer("contextual", both, [5]) == Candidates(list(range(6, 26)), "contextual")
    assert offer("contextual", both, [300]) == Candidates([1], "contextual")
    assert offer("contextual", both, [301]).source == "top100"
