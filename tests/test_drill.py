"""The table of faults in the docs names what the tests try, no more and no less."""

import ast
from pathlib import Path

from tests.drill import HEAD

ROOT = Path(__file__).parents[1]


def test_docs_name_every_fault_that_is_tried() -> None:
    calls = [n for path in (ROOT / "tests").rglob("*.py") for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    tried = {tuple(map(ast.literal_eval, n.args)) for n in calls if ast.unparse(n.func) == "pytest.mark.drill"}
    text = (ROOT / "docs" / "faults.md").read_text()
    rows = text[text.index(HEAD) + len(HEAD) :].strip().splitlines()
    named = [tuple(row.strip("| ").split(" | ")) for row in rows]
    assert {row[:3] for row in named} == tried
    assert {row[3] for row in named} == {"nothing"}
