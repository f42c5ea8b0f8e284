"""The runbook as a page: ``docs/runbook.md`` beside the package in, HTML out, whose headings have the anchors that links name."""

import re
from pathlib import Path

from recsys.exceptions import MissingDataError

PATH = Path(__file__).parents[2] / "docs" / "runbook.md"


def runbook(path: Path = PATH) -> str:
    """Its text as HTML, without its title. Links to other documents are plain text, for those are not there.

    Raises:
        MissingDataError: the installation has no documents.
    """
    from markdown_it import MarkdownIt

    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise MissingDataError(f"{path} is missing; read docs/runbook.md in the repository") from None
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(text.partition("\n")[2] if text.startswith("# ") else text)
    for token, inline in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and inline:
            token.attrSet("id", anchor(inline.content))
        closing = ""
        for part in token.children or []:
            if part.type == "link_open" and not str(part.attrGet("href")).startswith("#"):
                part.tag, part.attrs, closing = "span", {}, "span"
            elif part.type == "link_close":
                part.tag, closing = closing or part.tag, ""
    return str(reader.renderer.render(tokens, reader.options, {}))


def anchor(heading: str) -> str:
    """What a link to a heading names.

    >>> anchor("The service answers `5xx`, again")
    'the-service-answers-5xx-again'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
