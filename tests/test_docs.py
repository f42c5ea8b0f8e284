"""The documents hold together: links lead somewhere, the index names every page, the tree every module, paths exist."""

import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.markdown import DOCS, DOCUMENTS, LINKED, PAGES, README, ROOT, anchors, links, text_of

ARCHITECTURE = DOCS / "architecture.md"
#: Folders whose files documents name.
FOLDERS = "recsys|dags|plugins|docker|config|docs|notebooks|benchmarks|tests"


def broken(document: Path, target: str) -> bool:
    """Whether a link of a document leads to no file, or to no heading of it."""
    path, _, anchor = target.partition("#")
    file = (document.parent / path).resolve() if path else document
    return not file.exists() or bool(anchor and anchor not in anchors(text_of(file)))


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    found = [(document, target) for document in LINKED for target in links(text_of(document))]
    assert len(found) > 90
    assert [(document.name, target) for document, target in found if broken(document, target)] == []


@pytest.mark.parametrize("target", ["docs/tutorials.md", "docs/data.md#storages", "#two-comands", "docs/report.gif"])
def test_a_broken_link_is_noticed(target: str) -> None:
    assert broken(README, target)


def test_the_index_names_every_page_once() -> None:
    index = DOCS / "index.md"
    named = Counter(target for target in links(text_of(index)) if "/" not in target)
    assert named == Counter(page.name for page in PAGES if page != index)
    assert "docs/index.md" in links(text_of(README))


def test_the_readme_stays_within_two_screens() -> None:
    assert len(README.read_text().splitlines()) <= 100


def tree() -> list[str]:
    """Paths of the files that the tree names, each line with a word about it."""
    block = re.search(r"```text\n(recsys/\n.*?)```", ARCHITECTURE.read_text(), re.DOTALL)
    assert block
    folders, files = [""] * 3, []
    for line in block[1].splitlines():
        found = re.fullmatch(r"((?:  )*)([\w.]+/?)(?:  +(\S.*))?", line)
        assert found, line
        depth, name, words = len(found[1]) // 2, found[2], found[3]
        assert words or not depth, f"{line!r} does not say what it is"
        if name.endswith("/"):
            folders[depth] = name
        else:
            files.append("".join(folders[:depth]) + name)
    return files


def test_the_tree_names_every_module_once() -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "recsys").rglob("*.py") if not path.name.startswith("__")}
    named = tree()
    assert sorted(modules - set(named)) == [], f"{ARCHITECTURE.name} lacks a line for each"
    assert [name for name in named if not (ROOT / name).is_file()] == [], f"{ARCHITECTURE.name} names what is not there"
    assert [name for name, count in Counter(named).items() if count > 1] == []


def test_every_path_in_the_documents_exists() -> None:
    found = [(page, path) for page in DOCUMENTS for path in re.findall(rf"`((?:{FOLDERS})/[^`\s]*)", page.read_text())]
    assert len(found) > 25
    assert [(page.name, path) for page, path in found if not list(ROOT.glob(path.partition("::")[0]))] == []


def test_every_dotted_name_in_the_documents_exists() -> None:
    named = {name for page in DOCUMENTS for name in re.findall(r"`(recsys(?:\.\w+)+)`", page.read_text())}
    named |= {f"recsys.{name}" for name in re.findall(r"^\| \w+ \| `([a-z_.]+)` \|", ARCHITECTURE.read_text(), re.MULTILINE)}
    assert len(named) > 10
    assert [name for name in sorted(named) if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether the dotted name is that of a module, or of something in one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return True
