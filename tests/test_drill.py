"""The table of faults in the docs names what the tests try, no more and no less."""

import ast
from pathlib import Path

from tests.support.drill import HEAD

ROOT = Path(__file__).parents[1]


def test_docs_name_every_fault_that_is_tried() -> None:
    nodes = [node for path in (ROOT / "tests").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.drill"]
    tried = {tuple(map(ast.literal_eval, call.args)) for call in calls}
    text = (ROOT / "docs" / "faults.md").read_text()
    rows = text[text.index(HEAD) + len(HEAD) :].strip().splitlines()
    named = [tuple(row.strip("| ").split(" | ")) for row in rows]
    assert {row[:3] for row in named} == tried
    assert {row[3] for row in named} == {"nothing"}
