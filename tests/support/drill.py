"""The drill: ``make drill`` runs every test marked as a fault and writes a table of what was tried and what came of it.

A test says ``@pytest.mark.drill(component, moment, outcome)``; its assertions are what makes the outcome true.
"""

from collections import defaultdict
from pathlib import Path

import pytest

MARKER = "drill(component, moment, outcome): a fault of a component, when it strikes, and what must come of it"
HEAD = "| component | moment | what happens | lost | tests |\n|---|---|---|---|---|"


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--drill PATH`` runs the marked tests alone."""
    parser.addoption("--drill", type=Path, metavar="PATH", help="run only faults, and write the table of them here")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and collect results if a table is wanted."""
    config.addinivalue_line("markers", MARKER)
    if path := config.getoption("--drill"):
        config.pluginmanager.register(_Table(path), "drill table")


class _Table:
    """Chooses the marked tests and notes how they end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._faults: dict[str, tuple[str, ...]] = {}
        self._ended: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        marked = {item.nodeid: mark.args for item in items if (mark := item.get_closest_marker("drill"))}
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in marked])
        items[:] = [item for item in items if item.nodeid in marked]
        self._faults = marked

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self._ended[self._faults[report.nodeid]].append(report.outcome)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        rows = [
            f"| {' | '.join(fault)} | {_lost(ended)} | {ended.count('passed')} of {len(ended)} |"
            for fault, ended in sorted(self._ended.items())
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("\n".join([HEAD, *rows, ""]))
        terminalreporter.write_line("\n".join(["", HEAD, *rows]))
        terminalreporter.write_line(f"written to {self._path}")


def _lost(ended: list[str]) -> str:
    """What the tests of one fault have shown; a skipped one shows nothing."""
    if "failed" in ended:
        return "**not as it must be**"
    return "nothing" if "passed" in ended else "not tried here"
