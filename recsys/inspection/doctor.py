"""Which components are there, which are missing, and what to do about it."""

import importlib.util
import shutil
import subprocess
import urllib.request
from typing import NamedTuple

from recsys import catalog
from recsys.abtest.wording import counted
from recsys.exceptions import RecsysError
from recsys.settings import Settings
from recsys.storage.store import Storage
from recsys.versions import keyspace


class Finding(NamedTuple):
    """One component: whether it is there, whether the embedded default needs it, and a sentence."""

    name: str
    ok: bool
    needed: bool
    text: str


def examine(settings: Settings) -> list[Finding]:
    """Look at every component once; nothing is started or changed."""
    return [
        _world(settings),
        _storage(settings),
        _redis(settings),
        _service(settings),
        _packages(),
        _docker(),
    ]


def _world(settings: Settings) -> Finding:
    from recsys.simulate.world import validate

    if settings.experiment_source != "simulate":  # only the simulator knows listeners and what tracks are like
        try:
            tracks = catalog.load_tracks(settings.world)
        except RecsysError as error:
            return Finding("world", False, True, f"{error} ('recsys import' makes a catalogue)")
        return Finding("world", True, True, f"{settings.world}: {counted(tracks.size, 'track')}")
    try:
        validate(settings.world)
    except RecsysError as error:
        return Finding("world", False, True, f"{error} ('recsys world generate' writes one)")
    return Finding("world", True, True, str(settings.world))


def _storage(settings: Settings) -> Finding:
    try:
        dates = Storage(settings.storage_url).dates("logs")
    except (RecsysError, OSError) as error:
        return Finding("storage", False, True, str(error))
    return Finding("storage", True, True, f"{settings.storage_url}: {counted(len(dates), 'log date')}")


def _redis(settings: Settings) -> Finding:
    try:
        client = keyspace.connect(settings)
    except RecsysError as error:
        return Finding("redis", False, True, f"{error} ('make up' starts one)")
    version = client.info("server").get("valkey_version") or client.info("server").get("redis_version")
    return Finding("redis", True, True, f"{keyspace.address(settings.redis_url.get_secret_value())}, version {version}")


def _service(settings: Settings) -> Finding:
    try:
        with urllib.request.urlopen(f"{settings.service_url}/readyz", timeout=2) as answer:  # noqa: S310
            return Finding("service", True, True, f"{settings.service_url}: {answer.read().decode()}")
    except (OSError, ValueError) as error:
        return Finding("service", False, True, f"{settings.service_url}: {error} ('recsys serve' starts it)")


def _packages() -> Finding:
    missing = [name for name in ("torch", "duckdb", "ibis", "airflow") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("packages", False, True, f"not installed: {', '.join(missing)} ('make setup' installs them)")
    return Finding("packages", True, True, "torch, duckdb, ibis, airflow")


def _docker() -> Finding:
    if shutil.which("docker") is None:
        return Finding("docker", False, False, "no client; simulation runs in local processes")
    try:
        answer = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True, timeout=10, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("docker", False, False, "the engine does not answer; simulation runs in local processes")
    if answer.returncode != 0:
        return Finding("docker", False, False, "no engine answers; simulation runs in local processes")
    return Finding("docker", True, False, f"engine {answer.stdout.strip()}")
