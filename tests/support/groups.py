"""Tests in groups: a group runs in one worker, the longest groups begin first, and what took long is told at the end.

With ``-n N --dist loadgroup`` a group is handed out as a whole. (pytest-xdist's own way of doing so takes pytest's nodes to be
as they were before pytest 9.2, and hands out each test by itself.) A test's group is that of its mark ``xdist_group``, else
that of a component it shares with others, else its file. ``tests/durations.json`` holds the seconds of tests that take some;
``--keep-durations`` writes it anew.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

FILE = Path(__file__).parents[1] / "durations.json"
#: Fixtures that last as long as a worker: who uses one runs where the others run who do.
SHARED = ("hdfs",)
#: Tests shorter than this are not worth a line, in seconds.
SHORT = 2.0
#: What a test is taken for that the file does not know: a new one may be long, so it does not come last.
UNKNOWN = 1.0
TOLD = 15
#: Tests of these need real components.
REAL = ("real", "stack")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--keep-durations`` writes how long tests took."""
    parser.addoption("--keep-durations", action="store_true", help=f"write the seconds of tests into {FILE.name}")


def pytest_configure(config: pytest.Config) -> None:
    """Collect durations where reports arrive."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Durations(keep=config.getoption("--keep-durations")), "durations of groups")
    if config.getoption("dist", "no") == "loadgroup":
        config.pluginmanager.register(_Workers(), "workers that take groups")


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Put a test into its group."""
    mark = item.get_closest_marker("xdist_group")
    shared = [name for name in SHARED if name in getattr(item, "fixturenames", ())]
    group = str(mark.args[0]) if mark else (shared or [item.nodeid.split("::")[0]])[0]
    if not mark:
        item.add_marker(pytest.mark.xdist_group(group))
    item.user_properties.append(("group", group))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker: sort the longest groups first, and tell the scheduler which test is in which."""
    told = getattr(config, "workerinput", {}).get("groups")
    if not told:
        return
    known: dict[str, float] = json.loads(FILE.read_text()) if FILE.exists() else {}
    seconds: Counter[str] = Counter()
    for item in items:
        seconds[_group(item)] += known.get(item.nodeid, UNKNOWN if _is_real(item) else 0.0)
    items.sort(key=lambda item: (-seconds[_group(item)], _group(item)))
    partial = Path(f"{told}.{os.getpid()}")
    partial.write_text(json.dumps({item.nodeid: _group(item) for item in items}))
    partial.rename(told)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """On the continuous integration's machine a real component that is missing is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") and _is_real(item):
        report.outcome, report.longrepr = "failed", f"skipped, which CI does not allow: {report.longrepr}"
    return report


class _Workers:
    """Hands groups to workers."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="recsys-groups-")
        self._file = Path(self._directory.name) / "groups.json"

    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput["groups"] = str(self._file)

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Producer) -> LoadScopeScheduling:
        config.option.loadscopereorder = False
        return _Groups(config, log, self._file)

    def pytest_unconfigure(self) -> None:
        self._directory.cleanup()


class _Groups(LoadScopeScheduling):
    """Gives a worker its next group when it is about to begin the last test that it has."""

    def __init__(self, config: pytest.Config, log: Producer, file: Path) -> None:
        super().__init__(config, log)
        self._file = file
        self._groups: dict[str, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        self._groups = self._groups or json.loads(self._file.read_text())
        return self._groups[nodeid]

    def _reschedule(self, node: WorkerController) -> None:
        # A worker begins a test only once it knows the next one.
        if self._pending_of(self.assigned_work[node]) <= 1 or not self.workqueue:
            super()._reschedule(node)


class _Durations:
    """Adds up what reports tell."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._tests: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        group = str(dict(report.user_properties).get("group"))
        self._tests[report.nodeid] += report.duration
        self._groups[group] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        slow = [(group, seconds) for group, seconds in self._groups.most_common(TOLD) if seconds >= SHORT]
        if slow:
            terminalreporter.section("slowest groups")
            terminalreporter.write_line("\n".join(f"{seconds:7.0f} s  {group}" for group, seconds in slow))
        if self._keep:
            known: dict[str, float] = json.loads(FILE.read_text()) if FILE.exists() else {}
            known = {test: s for test, s in known.items() if (FILE.parents[1] / test.split("::")[0]).exists()} | self._tests
            kept = {test: round(seconds) for test, seconds in sorted(known.items()) if seconds >= SHORT}
            FILE.write_text(json.dumps(kept, indent=0) + "\n")
            terminalreporter.write_line(f"durations written to {FILE}")


def _group(item: pytest.Item) -> str:
    return str(dict(item.user_properties)["group"])


def _is_real(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in REAL)
