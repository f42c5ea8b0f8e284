"""The documents keep their word: every signal has its section in the runbook, every quoted command, target and setting exists."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.__main__ import ALTERNATIVES, MEASURES
from recsys import exceptions
from recsys.abtest import decision, headline
from recsys.abtest.metrics import GUARDRAILS
from recsys.cli import app
from recsys.logs import record
from recsys.service import meters as service
from recsys.settings import variables
from tests.support.markdown import DOCUMENTS, ROOT, anchors

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
SOURCES = [
    path for part in ("recsys", "dags", "plugins", "docker") for path in sorted((ROOT / part).rglob("*")) if path.is_file()
]
SOURCE = "\n".join(path.read_text() for path in SOURCES if path.suffix in (".py", ".sh", ".lua", ".yml", ""))
COMPOSE = (ROOT / "docker-compose.airflow.yml").read_text()
#: Words of Valkey and of Docker.
NOT_OURS = {"OOM command not allowed", "unhealthy"}
WORDS = r"((?:[ ]+[^\s`;|&)]+)+)"


def signals() -> list[str]:
    lines = [line for line in RUNBOOK.splitlines() if line.startswith("Signal:")]
    return [signal for line in lines for signal in re.findall(r"`([^`]+)`", line)]


def text_of(node: ast.expr) -> str | None:
    """A string as the runbook writes it: what is filled in is D."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "D" for part in node.values)
    return None


def subjects() -> set[str]:
    """Subjects of messages to people in the DAGs."""
    found = set()
    for path in (ROOT / "dags").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("tell", "NightNotifier"):
                found.add(text_of(node.args[0]))
            if isinstance(node, ast.Dict):
                keys = [getattr(key, "value", None) for key in node.keys]
                if "subject" in keys:
                    found.add(text_of(node.values[keys.index("subject")]))
    return found - {None}


def test_every_message_to_people_has_its_section() -> None:
    expected = {
        "a run failed",
        "a run is late",
        "the gate refused the candidate of D",
        "the candidate of D is held",
        "rollout: D",
    }
    assert subjects() == expected
    assert subjects() <= set(signals())
    named = set(re.findall(r"docs/runbook\.md#([\w-]+)", SOURCE))
    assert len(named) == len(subjects())
    assert named <= anchors(RUNBOOK)


def test_every_metric_of_the_service_has_its_section() -> None:
    found = {metric.name: metric.type for thing in vars(service).values() for metric in getattr(thing, "describe", list)()}
    names = {f"{name}_total" if kind == "counter" else name for name, kind in found.items()}
    assert len(names) == 8
    assert names <= set(signals())


def test_every_rule_of_a_report_has_its_section() -> None:
    source = Path(decision.__file__).read_text()
    rules = set(re.findall(r'Line\("([^"]+)"', source)) | set(re.findall(r'rule = "([^"]+)"', source))
    assert {"better than control", "sample ratio", "arrivals"} <= rules
    limited = {g.name for g in GUARDRAILS if any(limit is not None for limit in (g.at_most, g.at_least, g.margin))}
    assert rules | limited | {headline.LIVE, headline.REFERENCE} <= set(signals())


def test_every_reason_of_quarantine_and_every_error_is_explained() -> None:
    reasons = (
        record.UNTERMINATED,
        record.NO_JSON,
        record.NO_OBJECT,
        record.MESSAGE,
        record.IDENTIFIER,
        record.TIME,
        record.NO_RUN,
    )
    assert [reason for reason in reasons if f"`{reason}`" not in RUNBOOK] == []
    named = [one for one in vars(exceptions).values() if isinstance(one, type) and issubclass(one, exceptions.RecsysError)]
    for error in (one for one in named if one is not exceptions.RecsysError):
        assert re.search(rf"^\| {error.exit_code} \| .*`{error.__name__}`", RUNBOOK, re.MULTILINE), error


def test_signals_are_what_the_code_says() -> None:
    assert len(signals()) > 40
    counters = "".join(f"{name}_total" for name in re.findall(r'"(recsys_\w+)"', SOURCE))
    filled = re.sub(r"\{[^{}]*\}|%s", "D", SOURCE)
    known = (SOURCE + counters, filled)
    told = [(signal, signal.replace("nightshift_notify", "D")) for signal in signals() if signal not in NOT_OURS]
    assert [signal for signal, text in told if not any(signal in source or text in source for source in known)] == []


def code_of(text: str) -> list[str]:
    """Code of a document: lines of blocks, spans of text."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    indented = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [*(line for block in blocks for line in block.splitlines()), *indented, *(" ".join(span.split()) for span in spans)]


def quoted(start: str) -> Iterator[tuple[str, list[str]]]:
    """Document and words of every command that begins so; what follows a comment sign is none of it."""
    for document in DOCUMENTS:
        for line in code_of(document.read_text()):
            for words in re.findall(rf"(?:^|[\s;|&/]){start}{WORDS}", line.split(" #")[0]):
                yield document.name, words.split()


def fault_of(words: list[str]) -> str | None:
    """What is wrong with the words of a `recsys` command."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if (found := command.commands.get(rest[0])) is None:
            return f"there is no command {rest[0]!r}"
        command, rest = found, rest[1:]
    if command.context_settings.get("ignore_unknown_options"):  # the words that follow are another program's
        return None
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    given = {word.strip("[],").split("=")[0] for word in rest if word.strip("[").startswith("--")}
    return f"it has no option {min(given - options)}" if given - options else None


def test_every_recsys_command_in_the_documents_exists() -> None:
    commands = [(document, words) for document, words in quoted("recsys") if words[0] not in ("…", "COMMAND", "import")]
    assert len(commands) > 60
    faults = [(document, shlex.join(words), why) for document, words in commands if (why := fault_of(words))]
    assert faults == []


@pytest.mark.parametrize("words", ["verify --day D", "verfy --date D", "storage clear", "nightly --date D --dryrun"])
def test_a_command_that_does_not_exist_is_noticed(words: str) -> None:
    assert fault_of(words.split())


def test_every_make_target_and_module_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {word for _, words in quoted("make") for word in words[:1] if re.fullmatch("[a-z-]+", word)}
    assert {"run", "stack", "drill"} <= asked <= targets
    modules = [(document, words) for document, words in quoted("python -m") if words[0] != "pytest"]
    assert [words for _, words in modules if importlib.util.find_spec(words[0]) is None] == []
    names = {word for _, words in modules if words[0] == "benchmarks" for word in words[1:] if re.fullmatch("[a-z_]+", word)}
    assert names <= {*MEASURES, *ALTERNATIVES, "alternatives"}


def test_every_setting_in_the_documents_exists() -> None:
    fields = variables()
    for document in DOCUMENTS:
        for name in set(re.findall(r"RECSYS_[A-Z_]*[A-Z]", document.read_text())):
            assert name in fields or name in SOURCE + COMPOSE, (document.name, name)
