"""Checks of a report's files: JSON of the committed shape, and pages that need nothing else."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema

from recsys import abtest

SHAPE = json.loads((Path(abtest.__file__).parent / "report.schema.json").read_bytes())


def strict(path: Path) -> dict[str, Any]:
    """JSON of the committed shape, without NaN or infinities."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path}")

    document = json.loads(path.read_text(), parse_constant=refuse)
    jsonschema.Draft202012Validator(SHAPE).validate(document)
    return dict(document)


class Page(HTMLParser):
    """Tags with their attributes, and whether they nest."""

    VOID = ("meta", "img", "source", "br", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_self_contained(text: str) -> None:
    page = Page(text)
    assert page.open == []
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "srcset", "href", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#"))
            assert value is None or not value.startswith("#") or value[1:] in ids
        if tag == "img":
            assert len(attrs.get("alt") or "") > 20
        if tag == "th":
            assert attrs.get("scope") in ("col", "row", "rowgroup")
        for reference in ("aria-labelledby",):
            assert attrs.get(reference) is None or attrs[reference] in ids
    assert not re.search(r"(?:https?:)?//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    assert "light-dark(" in text
    assert "@media print" in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower().split()
