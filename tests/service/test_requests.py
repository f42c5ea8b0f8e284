"""Users and tracks as requests name them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalog import number_of
from recsys.logs.record import NO_TRACK
from recsys.service.requests import BadRequestError, Known, parse_event, parse_path_user, parse_user

LIVE, RUN = (Known(100, {"song-17": 17, "5": 50, "later": 100}, strict=strict) for strict in (False, True))


@given(st.integers(0, 2**63 - 1))
def test_an_integer_is_itself_however_it_is_written(user: int) -> None:
    assert parse_path_user(str(user)) == parse_user(user) == parse_user(str(user)) == (user, None)


@given(st.text(min_size=1, max_size=32).filter(lambda text: not text.lstrip("-").isdecimal()))
def test_a_text_is_hashed_and_kept(text: str) -> None:
    if text.isprintable() and "\ufffd" not in text:
        assert parse_path_user(text) == parse_user(text) == (number_of(text), text)


@pytest.mark.parametrize("text", ["007", "-0", "1.0", "1e3", "0x1", " 1", "+1", "٣", "a/b", "x" * 128, "é" * 64])
def test_what_is_not_written_as_integers_are_is_a_name(text: str) -> None:
    assert parse_path_user(text) == parse_user(text) == (number_of(text), text)


@pytest.mark.parametrize("text", ["", "-1", str(2**63), "9" * 19, "1" * 128, "x" * 129, "é" * 65])
def test_what_is_nobody_is_refused(text: str) -> None:
    for parse in (parse_path_user, parse_user):
        with pytest.raises(BadRequestError, match="an integer from 0 to 9223372036854775807, or a text of 1 to 128 bytes"):
            parse(text)


@pytest.mark.parametrize("value", [None, True, 1.0, -1, 2**63, [], {}])
def test_other_values_are_nobody(value: object) -> None:
    with pytest.raises(BadRequestError, match="an integer from 0"):
        parse_user(value)


def test_a_path_that_was_no_text_is_refused() -> None:
    with pytest.raises(BadRequestError):
        parse_path_user("a\ufffdb")


def track_of(track: object, known: Known) -> tuple[int, str | None]:
    event = parse_event({"track": track, "time": 0.5}, known, last=False, user=1)
    return event.track, event.track_id


@pytest.mark.parametrize("known", [LIVE, RUN], ids=["live", "run"])
def test_a_track_goes_by_number_or_by_its_owners_id(known: Known) -> None:
    assert [track_of(track, known) for track in (17, "song-17", 5, "5")] == [(17, None), (17, None), (5, None), (50, None)]


def test_a_live_track_may_be_unknown() -> None:
    assert track_of(100, LIVE) == (100, None)
    assert track_of(NO_TRACK - 1, LIVE) == (NO_TRACK - 1, None)
    assert track_of("new", LIVE) == (NO_TRACK, "new")
    # No catalogue of its own says so: it is one of another moment.
    assert track_of("later", LIVE) == (NO_TRACK, "later")


@pytest.mark.parametrize(("known", "track"), [
    (LIVE, NO_TRACK), (LIVE, -1), (LIVE, ""), (LIVE, "x" * 513), (LIVE, 1.0), (LIVE, True), (LIVE, None),
    (RUN, 100), (RUN, "new"), (RUN, "later"), (RUN, NO_TRACK),
])  # fmt: skip
def test_other_tracks_are_refused(known: Known, track: object) -> None:
    with pytest.raises(BadRequestError, match=r"track is .*: an integer from 0 to") as caught:
        track_of(track, known)
    assert caught.value.status == 400
