"""No command ends in a traceback: hundreds of command lines, each with one thing wrong in it or under it."""

import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import typer

from recsys import cli
from recsys.platform.servers import running
from recsys.settings import load_settings
from recsys.storage.store import Storage
from recsys.versions import keyspace
from tests.support.components import Valkey, free_port
from tests.support.night import write_world
from tests.versions.test_pointer import DAYS, promoted

pytestmark = [pytest.mark.real, pytest.mark.slow]

Line = tuple[str, ...]

#: A path in whose name there are more characters than a name may have, and paths where nothing can be.
BAD_PATHS = ["n" * 300, "/dev/null/x", "/proc/nowhere/x", "\udcff"]
BAD_NUMBERS = ["-1", "1" + 30 * "0", str(2**63), "inf", "nan", "x", ""]
BAD_DATES = ["", "0001-01-01", "9999-12-31", "2026-02-30", "1" * 300, "\udcff", "2026-01-05\n"]
BAD_WORDS = ["", "\udcff", "a" * 3000, "a\nb", "*", "../x", "/", "\x1b[31m"]
#: Statuses that say what was wrong; 1 is a check that found something.
TOLD = {2, 3, 4, 5, 6, 7}


@dataclass
class Place:
    """A world, a Valkey with two versions, a storage and files, and which words belong to a command that would work."""

    root: Path
    client: redis.Redis
    words: dict[str, str]

    def lines(self) -> Iterator[Line]:
        """Every command that ends by itself, as it works; a service and traffic fail for want of a world."""
        for path, parameters in leaves(typer.main.get_command(cli.app)):
            if path[0] != "platform":
                yield self.line(path, parameters)

    def spoiled(self) -> Iterator[Line]:
        """Every command, with one value that it cannot take."""
        for path, parameters in leaves(typer.main.get_command(cli.app)):
            for parameter in parameters:
                for value in bad_values(parameter):
                    yield self.line(path, parameters, parameter.name, value)

    def line(self, path: Line, parameters: list, name: str = "", value: str = "") -> Line:
        options, arguments = [], []
        for parameter in parameters:
            wanted = self.words.get(f"{path[-1]} {parameter.name}") or (
                self.words[parameter.name] if parameter.required else None
            )
            word = value if parameter.name == name else wanted
            if word is None:
                continue
            if parameter.param_type_name == "argument":
                arguments.append(word)
            else:
                options += [parameter.opts[0], word]
        return (*path, *options, *(["--"] if arguments else []), *arguments)


def leaves(command: typer.core.TyperGroup, path: Line = ()) -> Iterator[tuple[Line, list]]:
    for name, found in command.commands.items():
        if hasattr(found, "commands"):
            yield from leaves(found, (*path, name))
        else:
            yield (*path, name), [p for p in found.params if p.name != "help" and not getattr(p, "is_flag", False)]


def bad_values(parameter: typer.core.TyperOption) -> list[str]:
    kind = str(parameter.type_descriptor.annotation)
    if parameter.name in ("day", "first", "second"):
        return BAD_DATES
    if "Path" in kind:
        return BAD_PATHS
    return BAD_NUMBERS if "int" in kind or "float" in kind else BAD_WORDS


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("place")
    for directory in (*root.parents[:2], root):  # somebody without rights is to read it
        directory.chmod(0o755)
    with running(Valkey(root)) as valkey, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RECSYS_REDIS_URL": valkey.url,
            "RECSYS_STORAGE": f"file://{root}/storage",
            "RECSYS_VAR": str(root / "var"),
            "RECSYS_WORLD": str(write_world(root / "world")),
            "RECSYS_SERVICE_URL": f"http://127.0.0.1:{free_port()}",
        }.items():
            patch.setenv(name, value)
        client = keyspace.connect(load_settings())
        versions = promoted(client, Storage(f"file://{root}/storage"), DAYS[:2])
        (root / "lists").write_text("".join(json.dumps({"user": u, "tracks": [u, u + 50]}) + "\n" for u in range(40)))
        (root / "top").write_text(json.dumps(list(range(100))))
        (root / "logs").mkdir()
        (root / "logs" / "x.jsonl").write_text("{}\n")
        os.utime(root / "logs" / "x.jsonl", (1e9, 1e9))
        (root / "plays.csv").write_text("who,what\n1,a\n2,b\n")
        words = {
            "day": "2026-01-05", "first": "2026-01-02", "second": "2026-01-03", "version": versions[0], "why": "because",
            "prefix": "logs", "directory": "d", "target": str(root / "pulled"), "recommendations": str(root / "lists"),
            "top": str(root / "top"), "user": "1", "session": "0", "step": "0", "logs": str(root / "logs"), "experiment": "AB",
            "control": "C", "share": "25", "out": str(root / "out"), "serve world": "/nowhere", "traffic world": "/nowhere",
            "up world": "/nowhere", "generate directory": str(root / "made"), "generate tracks": "200", "generate artists": "20",
            "generate users": "10", "upload user": "ann", "upload source": str(root / "logs"), "pull source": str(root / "logs"),
            "files": str(root / "plays.csv"), "import user": "who", "import track": "what",
            "import dates": "2020-01-01..2020-01-02", "import world": str(root / "imported"),
            "grow directory": str(root / "world"), "model": "nowhere:Class",
            "file": str(root / "plays.csv"), "unit": "who", "table arm": "what",
            "table control": "a", "metric": "n=who",
        }  # fmt: skip
        yield Place(root, client, words)


@pytest.fixture(autouse=True)
def _settings(place: Place, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The settings of the place, which the fixture that cleans the environment has taken away; and files go nowhere else."""
    monkeypatch.chdir(place.root)
    for name, value in {
        "RECSYS_REDIS_URL": f"redis://127.0.0.1:{place.client.connection_pool.connection_kwargs['port']}/0",
        "RECSYS_STORAGE": f"file://{place.root}/storage",
        "RECSYS_VAR": str(place.root / "var"),
        "RECSYS_WORLD": str(place.root / "world"),
        "RECSYS_SERVICE_URL": f"http://127.0.0.1:{free_port()}",
        "RECSYS_HDFS_PATIENCE": "0",
    }.items():
        monkeypatch.setenv(name, value)


class Lines:
    """Runs command lines in this process, as the program does, and notes what ended otherwise than it must."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.wrong: list[str] = []
        self.ended: dict[Line, int] = {}

    def run(self, line: Line) -> int:
        self._monkeypatch.setattr(sys, "argv", ["recsys", *line])
        self._capsys.readouterr()
        status: object = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code
        except BaseException as error:
            self.wrong.append(f"{shown(line)}: {error!r}")
            return -1
        assert isinstance(status, int)
        self.ended[line] = status
        error = self._capsys.readouterr().err
        lines = [text for text in error.splitlines() if text.startswith("recsys:")]
        is_told = len(lines) == 1 or "Usage:" in error if status in TOLD else status in (0, 1)
        if not is_told or "unexpected" in error or "Traceback" in error:
            self.wrong.append(f"{shown(line)}: status {status}, {error[-500:]}")
        return status


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lines:
    return Lines(monkeypatch, capsys)


def shown(line: Line) -> str:
    return " ".join(ascii(word if len(word) < 40 else f"{word[:20]}…") for word in line)


@pytest.mark.drill("commands", "a value that they cannot take", "one line and the status that says whose fault it is")
def test_no_bad_value_ends_a_command_in_a_traceback(place: Place, lines: Lines) -> None:
    spoiled = list(place.spoiled())
    assert len(spoiled) > 300
    for line in spoiled:
        lines.run(line)
    assert not lines.wrong
    assert lines.ended[("storage", "clean", "--days", "inf")] == 2
    assert lines.ended[("promote", "--why", "\udcff", "--", place.words["version"])] == 2
    assert lines.ended[("world", "generate", *bad_directory(place))] == 2


def bad_directory(place: Place) -> Line:
    return ("--dir", "n" * 300, "--tracks", "200", "--artists", "20", "--users", "10")


@contextmanager
def spoiled_redis(client: redis.Redis, fault: str) -> Iterator[None]:
    """Redis as a command may find it after connecting: full, read-only, without rights, or with other things under our keys."""
    commands = {
        "full": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        "read-only": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        "without rights": ("ACL SETUSER default -fcall -hgetall -get -xrange", "ACL SETUSER default +@all"),
        "with another password": ("CONFIG SET requirepass other", "AUTH other"),
    }
    if fault in commands:
        before, after = commands[fault]
        client.execute_command(*before.split())
        yield
        client.execute_command(*after.split())
        client.execute_command("CONFIG", "SET", "requirepass", "")
        return
    key = fault
    client.copy(key, f"{key}:kept")
    client.delete(key)
    if key == keyspace.LIVE:
        client.hset(key, mapping={"version": b"\xff", "generation": "z"})
    else:
        client.set(key, b"\xff")
    yield
    client.delete(key)
    if client.exists(f"{key}:kept"):
        client.rename(f"{key}:kept", key)


REDIS_FAULTS = ["full", "read-only", "without rights", "with another password"]
KEYS = [keyspace.LIVE, keyspace.AUDIT, keyspace.LEASES, keyspace.BLOCKED, keyspace.VERSIONS]


@pytest.mark.drill(
    "commands", "Redis fails or holds something else", "one line and status 4 or 5; no move without its line in the trail"
)
@pytest.mark.parametrize("fault", [*REDIS_FAULTS, *KEYS])
def test_no_fault_of_redis_ends_a_command_in_a_traceback(place: Place, lines: Lines, fault: str) -> None:
    blocked = place.client.smembers(keyspace.BLOCKED)
    with spoiled_redis(place.client, fault):
        for words in ("hold --why x", "release --why x", f"promote {place.words['version']} --why x", "rollback --why x",
                      "audit", "restore-live", "traffic --date 2026-01-05", "publish --recommendations lists --top top",
                      "verify --date 2026-01-05", "doctor"):  # fmt: skip
            lines.run(tuple(words.split()))
        trail_is_gone = fault in (*REDIS_FAULTS, keyspace.AUDIT)
        if trail_is_gone:
            assert lines.ended[("hold", "--why", "x")] in (4, 5)
    assert not lines.wrong
    if trail_is_gone:
        assert place.client.smembers(keyspace.BLOCKED) == blocked


@contextmanager
def spoiled_storage(place: Place, fault: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if fault == "full":
        # What is traced could not write what was traced.
        for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
            monkeypatch.delenv(name)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    elif fault == "read-only":
        directories = [place.root, *(path for path in place.root.rglob("*") if path.is_dir())]
        for directory in directories:
            directory.chmod(0o555)
        somebody = 65534 if os.geteuid() == 0 else os.geteuid()  # root may write everywhere
        before = os.geteuid()
        os.seteuid(somebody)
        try:
            yield
        finally:
            os.seteuid(before)
            for directory in directories:
                directory.chmod(0o755)
    else:
        monkeypatch.setenv("RECSYS_STORAGE", fault)
        yield


STORAGES = ["full", "read-only", "file:///dev/null/x", "file:///proc/x", f"file:///{'n' * 300}", "webhdfs://127.0.0.1:1/x"]


@pytest.mark.drill(
    "commands", "the storage is full, read-only or no place at all", "one line and status 2 or 5; nothing was held"
)
@pytest.mark.parametrize("fault", STORAGES)
def test_no_fault_of_the_storage_ends_a_command_in_a_traceback(
    place: Place, lines: Lines, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with spoiled_storage(place, fault, monkeypatch):
        for line in (("hold", "--why", "x"), *place.lines()):
            lines.run(line)
    blocked = place.client.smembers(keyspace.BLOCKED)
    place.client.delete(keyspace.BLOCKED, keyspace.ROLLOUT)  # a candidate can be taken back whatever the storage does
    assert not lines.wrong
    assert lines.ended[("hold", "--why", "x")] in (2, 5)
    assert fault == "full" or not blocked  # a full disk may still have room for a directory
