"""The session-aware answer against a plain statement of its rule."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.service.session import SessionChooser
from recsys.versions import keyspace
from recsys.versions.session_lists import WHOLE_DISCOUNT, SessionLists

TRACKS = 30


def lists(seed: int = 0, rows: int = 3, width: int = 12, gamma: float = 0.6, size: int = TRACKS) -> SessionLists:
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.integers(0, 20, (rows, width)), axis=1)
    tracks = np.stack([rng.permutation(size)[:width] for _ in range(rows)])
    order = np.lexsort((tracks, -scores), axis=1)
    discounts = np.rint(WHOLE_DISCOUNT * gamma ** np.arange(4)).astype(np.uint32)
    return SessionLists(
        rng.integers(0, rows, size).astype(np.uint32),
        np.take_along_axis(tracks, order, 1).astype(np.uint32),
        scores.astype(np.uint16),
        np.sort(rng.integers(0, 40, (2, 1024)), axis=1).astype(np.uint16),
        rng.integers(-20, 20, (size, 3)).astype(np.int8),
        rng.integers(-20, 20, (rows, 3)).astype(np.int8),
        np.array([300], np.uint32),
        rng.integers(0, 5, size).astype(np.uint32),
        discounts,
    )


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 20),
    st.lists(st.integers(0, TRACKS - 1), min_size=1, max_size=25),
    st.integers(0, 1),
    st.lists(st.integers(0, 2), max_size=3, unique=True),
    st.booleans(),
)
def test_the_best_unplayed_candidate_after_discounts(
    seed: int, session: list[int], level: int, groups: list[int], known: bool
) -> None:
    data = lists(seed)
    plays = [number for track in session for number in (track, 5000)]
    here = data.firsts[session[0]].astype(int)
    distance = {number: int(((here - data.places[number]) ** 2).sum()) for number in groups}
    near = [number for number in groups if distance[number] <= 300]
    row = min(near, key=lambda number: distance[number]) if near and known else data.row_of[session[0]]
    artists = [data.artist_of[track] for track in session]
    worth = [
        (
            -int(data.times[level if known else 0, score]) * int(data.discounts[min(3, artists.count(data.artist_of[track]))]),
            place,
        )
        for place, (track, score) in enumerate(zip(data.tracks[row], data.scores[row], strict=True))
        if track not in session
    ]
    answer = SessionChooser(data).best(plays, set(session), [level, *groups] if known else [])
    if not worth:
        assert answer is None
    else:
        assert answer is not None
        assert answer.tracks == (data.tracks[row][min(worth)[1]],)
        assert answer.source == "session"


def test_tracks_that_the_lists_do_not_know_count_as_not_played() -> None:
    chooser = SessionChooser(lists())
    known = chooser.best([3, 10_000, 8, 9000], {3, 8})
    assert chooser.best([TRACKS, 5000, 3, 10_000, 2**31 - 1, 0, 8, 9000], {3, 8, TRACKS, 2**31 - 1}) == known
    assert chooser.best([TRACKS, 5000], {TRACKS}) is None


def test_a_barred_track_is_no_candidate() -> None:
    chooser, barred = SessionChooser(lists()), set[int]()
    while found := chooser.best([3, 10_000], {3}, (), barred):
        assert not barred & set(found.tracks)
        barred.update(found.tracks)
    assert len(barred) in (11, 12)


def test_serialised_lists_answer_alike() -> None:
    data = lists()
    same = SessionLists.from_bytes(data.to_bytes())
    assert same.to_bytes() == data.to_bytes()
    assert SessionChooser(same).best([3, 10_000], {3}) == SessionChooser(data).best([3, 10_000], {3})


def test_a_users_entry_holds_tracks_and_taste() -> None:
    packed = keyspace.pack([5, 7, 9]) + keyspace.pack_taste([3, 0, 39_999])
    tracks, taste = keyspace.split(keyspace.unpack(packed))
    assert (tracks.tolist(), taste) == ([5, 7, 9], [3, 0, 39_999])
    assert keyspace.split(keyspace.unpack(b"")) == (keyspace.unpack(b""), [])
