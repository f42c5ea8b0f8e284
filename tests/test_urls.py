"""Whatever the parts of a URL hold, they come out of it as they went in."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import parse_url

from recsys import urls
from recsys.exceptions import InvalidInputError

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
hosts = st.one_of(st.sampled_from(["valkey", "a.b.example"]), st.ip_addresses().map(str))
ports = st.integers(1, 65535)


@given(host=hosts, port=ports, user=st.one_of(st.just(""), names), password=st.one_of(st.just(""), names))
def test_parts_come_out_as_they_went_in(host: str, port: int, user: str, password: str) -> None:
    where = urls.authority(host, port, user, password)
    parts = urlsplit(f"webhdfs://{where}/path")
    assert (parts.hostname, parts.port, parts.path) == (host, port, "/path")
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    read = parse_url(f"redis://{where}/3")
    assert (read["host"], read["port"], read["db"]) == (host, port, 3)
    assert (read.get("username", ""), read.get("password", "")) == (user, password)


def test_brackets_are_not_doubled() -> None:
    assert urls.authority("[::1]", 1) == urls.authority("::1", 1) == "[::1]:1"


@pytest.mark.parametrize("url", ["redis://valkey:port/0", "webhdfs://[::1/x", "http://host:70000/"])
def test_what_is_no_url_is_named(url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"storage .* is no URL"):
        urls.split(url, "storage")
