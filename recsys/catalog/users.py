"""What listeners are called, and the listeners of a simulated world.

A user is a key, nothing more: an integer from 0 to 2^63 - 1, or a text of 1 to 128 bytes, which a hash makes such an integer.
Only the simulator needs a list of users (``users.json``); everybody else meets them in logs.
"""

from collections.abc import Container, Mapping
from pathlib import Path

import mmh3
import numpy as np
import numpy.typing as npt

from recsys.catalog.lines import json_lines, malformed
from recsys.exceptions import InvalidInputError, WorldError

USERS = "users.json"

#: User ids end below this: they fit a signed 64-bit column.
MAX_USER = 2**63
#: Bytes of UTF-8 of a user's id that is a text.
MAX_USER_BYTES = 128


def number_of(text: str) -> int:
    """The number of a user whose id is a text; a text that is an integer as it is written stands for that integer.

    The other texts are hashed: the lowest 63 bits of MurmurHash3 (x64, 128 bits) of their bytes. That two of a million listeners
    meet has a probability of about 5e-8.

    >>> number_of("7"), number_of("007"), number_of("alice")
    (7, 3244491316004259589, 5699955792253506986)

    Raises:
        InvalidInputError: the text is empty or longer than 128 bytes, or is no UTF-8.
    """
    # 19 digits are below 2^63 or are compared with it.
    if text.isascii() and text.isdigit() and (text[0] != "0" or text == "0") and len(text) <= 19 and int(text) < MAX_USER:
        return int(text)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"user {text[:50]!r} is no UTF-8 text; an id is a text that can be written as UTF-8") from None
    if not 0 < len(data) <= MAX_USER_BYTES:
        raise InvalidInputError(f"user {text[:50]!r} has {len(data)} bytes; a user's id has 1 to {MAX_USER_BYTES}")
    return mmh3.hash64(data, signed=False)[0] % MAX_USER


def load_users(world: Path) -> npt.NDArray[np.int64]:
    """Ids of the users of a world directory, ascending.

    Raises:
        WorldError: the file is missing or empty, or a line is not an object with an unused id in ``user``.
    """
    path = world / USERS
    seen: set[int] = set()
    for number, line in json_lines(path):
        seen.add(user_id(path, number, line, seen))
    if not seen:
        raise WorldError(f"{path} has no users; at least one is needed")
    return np.array(sorted(seen), np.int64)


def user_id(path: Path, number: int, line: Mapping[str, object], seen: Container[int]) -> int:
    """The checked ``user`` of a line of a users file; ``seen`` holds the ids of the lines before.

    Raises:
        WorldError: absent, not an integer from 0 to 2**63 - 1, or seen before.
    """
    if "user" not in line:
        raise malformed(path, number, "field 'user' is missing")
    user = line["user"]
    if type(user) is not int or not 0 <= user < MAX_USER:
        raise malformed(path, number, f"user is {user!r}, not an integer from 0 to {MAX_USER - 1}")
    if user in seen:
        raise malformed(path, number, f"user {user} appears a second time; ids must be unique")
    return user
