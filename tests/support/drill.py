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
    """Chooses the marked tests and notes how they end; with several workers each chooses, and the first process notes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        config.hook.pytest_deselected(items=[item for item in items if not item.get_closest_marker("drill")])
        items[:] = [item for item in items if item.get_closest_marker("drill")]
        for item in items:
            # The report brings it back from the worker that runs the test.
            item.user_properties.append(("fault", item.get_closest_marker("drill").args))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self._ended[tuple(dict(report.user_properties)["fault"])].append(report.outcome)

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
