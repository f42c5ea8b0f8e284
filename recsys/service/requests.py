"""Reading of request bodies: bytes in, typed events out, or an error that names field, value and constraint."""

import re
import reprlib
from collections.abc import Mapping
from typing import NamedTuple

import mmh3
import orjson

from recsys.catalog import MAX_ID_BYTES, MAX_USER, MAX_USER_BYTES, number_of
from recsys.exceptions import InvalidInputError
from recsys.logs.record import NO_TRACK

MAX_BODY = 2**20
MAX_BATCH = 4096
MAX_EVENT_KEY = 100
NO_EVENT = bytes(16)
_USER = f"an integer from 0 to {MAX_USER - 1}, or a text of 1 to {MAX_USER_BYTES} bytes of UTF-8"
#: How integers are written; one that is no user's number is nobody's name either.
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
#: What stands in a path for bytes that are no UTF-8.
_NO_TEXT = "\ufffd"
#: Values in messages: the outer levels of what is nested, which may be deeper than Python's own repr can go.
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 200


class BadRequestError(InvalidInputError):
    """A request that breaks a constraint.

    Args:
        field: where in the request. value: what was there. constraint: what is allowed. status: HTTP status.
    """

    def __init__(self, field: str, value: object, constraint: str, status: int = 400) -> None:
        self.field, self.value, self.constraint, self.status = field, _SHOWN.repr(value)[:200], constraint, status
        super().__init__(f"{field} is {self.value}: {constraint}")

    def body(self) -> dict[str, dict[str, str]]:
        """The JSON body of the answer."""
        return {"error": {"field": self.field, "value": self.value, "constraint": self.constraint, "message": str(self)}}


class Known(NamedTuple):
    """The tracks that an event may name: numbers below ``size`` and their owner's ids; others too unless it is ``strict``."""

    size: int
    number_of: Mapping[str, int]
    strict: bool


class Event(NamedTuple):
    """One thing a listener did: played ``track`` for ``time`` (a fraction), and wants the next or leaves.

    ``user_id`` is the user's id if that is a text, ``track_id`` what an unknown track was called.
    """

    last: bool
    user: int
    track: int
    time: float
    key: str | None
    digest: bytes
    user_id: str | None = None
    track_id: str | None = None


def parse_json(body: bytes) -> dict[str, object]:
    """The JSON object of a body."""
    if len(body) > MAX_BODY:
        raise BadRequestError("body", f"{len(body)} bytes", f"at most {MAX_BODY} bytes", 413)
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError("body", body[:80], f"a JSON object in UTF-8 ({error})") from None
    if type(data) is not dict:
        raise BadRequestError("body", data, "a JSON object")
    return data


def parse_path_user(text: str) -> tuple[int, str | None]:
    """Number of the user in a path, and the user's id if that is a text."""
    if text.isascii() and text.isdigit() and len(text) < 19 and (text[0] != "0" or text == "0"):
        return int(text), None
    if _NO_TEXT in text:
        raise BadRequestError("user", text, _USER, 404)
    return _named_user(text, 404)


def parse_user(user: object) -> tuple[int, str | None]:
    """Number of the user in a field, and the user's id if that is a text; an integer in quotes is that integer."""
    if type(user) is int and 0 <= user < MAX_USER:
        return user, None
    if type(user) is not str:
        raise BadRequestError("user", user, _USER)
    return _named_user(user, 400)


def _named_user(text: str, status: int) -> tuple[int, str | None]:
    try:
        number = number_of(text)
    except InvalidInputError:
        raise BadRequestError("user", text, _USER, status) from None
    if not _INTEGER.fullmatch(text):
        return number, text
    if text != str(number):
        raise BadRequestError("user", text, _USER, status)
    return number, None


def parse_event(data: Mapping[str, object], known: Known, last: bool, user: int, user_id: str | None = None) -> Event:
    """Check the fields of a next or last event.

    >>> parse_event({"track": 3, "time": 1.5}, Known(100, {}, strict=True), last=False, user=7)
    Traceback (most recent call last):
    recsys.service.requests.BadRequestError: time is 1.5: a number from 0 to 1
    """
    track, played, key = data.get("track"), data.get("time"), data.get("event")
    track_id = None
    if type(track) is not int or not 0 <= track < known.size:
        track, track_id = _named_track(track, known)
    if (type(played) is not float and type(played) is not int) or not 0 <= played <= 1:
        raise BadRequestError("time", played, "a number from 0 to 1")
    if key is None:
        return Event(last, user, track, played, None, NO_EVENT, user_id, track_id)
    if type(key) is not str or not 0 < len(key) <= MAX_EVENT_KEY:
        raise BadRequestError("event", key, f"a string of 1 to {MAX_EVENT_KEY} characters")
    return Event(last, user, track, played, key, mmh3.hash_bytes(("l" if last else "n") + key), user_id, track_id)


def _named_track(track: object, known: Known) -> tuple[int, str | None]:
    """Number of a track that is no number below ``size``, and what it is called if nobody knows it."""
    if type(track) is str and 0 < len(track.encode()) <= MAX_ID_BYTES:
        number = known.number_of.get(track, NO_TRACK)
        if number < known.size:
            return number, None
        if not known.strict:
            return NO_TRACK, track
    if type(track) is int and 0 <= track < NO_TRACK and not known.strict:
        return track, None
    if known.strict:
        raise BadRequestError("track", track, f"an integer from 0 to {known.size - 1}, or the id of such a track")
    raise BadRequestError("track", track, f"an integer from 0 to {NO_TRACK - 1}, or an id of 1 to {MAX_ID_BYTES} bytes")


def parse_batch(body: bytes, known: Known) -> list[Event]:
    """The events of a batch, each of another user."""
    data = parse_json(body)
    events = data.get("events")
    if type(events) is not list or len(events) > MAX_BATCH:
        value = events if type(events) is not list else f"{len(events)} events"
        raise BadRequestError("events", value, f"a list of at most {MAX_BATCH} events")
    parsed: list[Event] = []
    seen: set[int] = set()
    for i, item in enumerate(events):
        try:
            if type(item) is not dict:
                raise BadRequestError("event", item, "a JSON object")
            message = item.get("message")
            if message != "next" and message != "last":
                raise BadRequestError("message", message, "next or last")
            user, user_id = parse_user(item.get("user"))
            if user in seen:
                raise BadRequestError("user", user_id or user, "only once in a batch, so that a user's events stay in order")
            seen.add(user)
            parsed.append(parse_event(item, known, message == "last", user, user_id))
        except BadRequestError as error:
            error.field = f"events[{i}].{error.field}"
            raise
    return parsed
