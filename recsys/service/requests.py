"""Reading of request bodies: bytes in, typed events out, or an error that names field, value and constraint."""

from collections.abc import Container, Mapping
from typing import NamedTuple

import mmh3
import orjson

from recsys.exceptions import InvalidInputError

MAX_BODY = 2**20
MAX_BATCH = 4096
MAX_EVENT_KEY = 100
NO_EVENT = bytes(16)


class BadRequestError(InvalidInputError):
    """A request that breaks a constraint.

    Args:
        field: where in the request. value: what was there. constraint: what is allowed. status: HTTP status.
    """

    def __init__(self, field: str, value: object, constraint: str, status: int = 400) -> None:
        text = repr(value)
        self.field, self.value, self.constraint, self.status = field, text[:200], constraint, status
        super().__init__(f"{field} is {self.value}: {constraint}")

    def body(self) -> dict[str, dict[str, str]]:
        """The JSON body of the answer."""
        return {"error": {"field": self.field, "value": self.value, "constraint": self.constraint, "message": str(self)}}


class Event(NamedTuple):
    """One thing a listener did: played ``track`` for ``time`` (a fraction), and wants the next or leaves."""

    last: bool
    user: int
    track: int
    time: float
    key: str | None
    digest: bytes


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


def parse_user(text: object, users: Container[int]) -> int:
    """A known user id from a path or a field."""
    if type(text) is str:
        if not (text.isascii() and text.isdigit() and len(text) <= 10):
            raise BadRequestError("user", text, "a user id, a non-negative integer", 404)
        text = int(text)
    if type(text) is not int:
        raise BadRequestError("user", text, "a user id, a non-negative integer")
    if text not in users:
        raise BadRequestError("user", text, "a known user id", 404)
    return text


def parse_event(data: Mapping[str, object], last: bool, user: int, tracks: int) -> Event:
    """Check the fields of a next or last event; the catalogue has ``tracks`` tracks.

    >>> parse_event({"track": 3, "time": 1.5}, last=False, user=7, tracks=100)
    Traceback (most recent call last):
    recsys.service.requests.BadRequestError: time is 1.5: a number from 0 to 1
    """
    track, played, key = data.get("track"), data.get("time"), data.get("event")
    if type(track) is not int or not 0 <= track < tracks:
        raise BadRequestError("track", track, f"an integer from 0 to {tracks - 1}")
    if (type(played) is not float and type(played) is not int) or not 0 <= played <= 1:
        raise BadRequestError("time", played, "a number from 0 to 1")
    if key is None:
        return Event(last, user, track, played, None, NO_EVENT)
    if type(key) is not str or not 0 < len(key) <= MAX_EVENT_KEY:
        raise BadRequestError("event", key, f"a string of 1 to {MAX_EVENT_KEY} characters")
    return Event(last, user, track, played, key, mmh3.hash_bytes(("l" if last else "n") + key))


def parse_batch(body: bytes, users: Container[int], tracks: int) -> list[Event]:
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
            user = item.get("user")
            if type(user) is not int or user not in users:
                raise BadRequestError("user", user, "a known user id")
            if user in seen:
                raise BadRequestError("user", user, "only once in a batch, so that a user's events stay in order")
            seen.add(user)
            parsed.append(parse_event(item, message == "last", user, tracks))
        except BadRequestError as error:
            error.field = f"events[{i}].{error.field}"
            raise
    return parsed
