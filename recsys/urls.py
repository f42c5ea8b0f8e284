"""URLs from their parts, which may hold anything, and back."""

from urllib.parse import SplitResult, quote, urlsplit

from recsys.exceptions import InvalidInputError


def authority(host: str, port: int, user: str = "", password: str = "") -> str:
    """What stands between the two slashes and the path: credentials are quoted, an IPv6 address gets its brackets.

    >>> authority("valkey", 6379, password="p/w@1")
    ':p%2Fw%401@valkey:6379'
    >>> authority("::1", 9870, "ann")
    'ann@[::1]:9870'
    """
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"{login}{'@' if login else ''}{bracketed(host)}:{port}"


def bracketed(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address in brackets, others as they are."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def split(url: str, what: str) -> SplitResult:
    """The parts of a URL; ``what`` it is of goes into the message.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError as error:
        raise InvalidInputError(f"{what} {url!r} is no URL: {error}") from None
    return parts
