"""The documents that people read: README, changelog, the pages of docs and the words of notebooks."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
DOCUMENTS = [README, *PAGES]
#: All that holds links.
LINKED = [*DOCUMENTS, ROOT / "CHANGELOG.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]


def text_of(document: Path) -> str:
    """A document as Markdown; of a notebook what stands between the code."""
    text = document.read_text()
    if document.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def prose(text: str) -> str:
    """The text without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What links to headings of the text may name; a repeated heading is numbered."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(next(n for n in (name, *(f"{name}-{i}" for i in range(1, 100))) if n not in found))
    return found


def links(text: str) -> list[str]:
    """Targets of the text's links and pictures, but those of the web."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]+`", "", prose(text)))
    return [target for target in targets if not re.match(r"\w+:", target)]
