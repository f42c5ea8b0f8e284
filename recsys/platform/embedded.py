"""Parts of a command's own while it runs: a Valkey, persistent in ``<var>/valkey`` and reached over a unix socket, and a service.

They are recorded as a platform's are, so that whatever comes next on the directory ends what a kill has left. Where they are
reached stands in ``<var>/embedded.json``, for commands in other shells.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import redis
from pydantic import SecretStr, TypeAdapter, ValidationError

from recsys.platform import components
from recsys.platform.ports import HOST, free_port
from recsys.platform.processes import Processes, Recorded, is_running, recorded, sole_owner
from recsys.settings import Settings, environment_of

START_SECONDS = 60.0
VALKEY, SERVICE = "valkey", "service"


@dataclass(frozen=True)
class Address:
    """Where what runs embedded is reached, and whose it is; ``service_url`` is empty if there is no service."""

    FILE: ClassVar[str] = "embedded.json"

    owner: Recorded
    redis_url: str
    service_url: str


def address(var: Path) -> Address | None:
    """Where what runs embedded on a directory is reached; None if nothing does."""
    try:
        found = TypeAdapter(Address).validate_json((var / Address.FILE).read_bytes(), strict=True)
    except (FileNotFoundError, ValidationError):
        return None
    return found if is_running(found.owner) else None


@contextmanager
def embedded(settings: Settings, *, service: bool, serving: str = "") -> Iterator[Settings]:
    """The settings with a Valkey of their own behind them while the block runs, and with a service too if asked for.

    Args:
        serving: where the block itself serves.

    Raises:
        ConflictError: another command runs something on the directory. UnavailableError: a part does not start.
    """
    var = settings.var.resolve()
    # A socket's path may have 107 characters at most, so it cannot stand below an arbitrary directory.
    with sole_owner(var) as ignore_signals, tempfile.TemporaryDirectory(prefix="recsys-") as sockets:
        processes = Processes(var)
        try:
            found = _with_valkey(processes, settings, Path(sockets) / "valkey.sock")
            if service:
                found = _with_service(processes, found)
                serving = found.service_url
            _write(var, Address(recorded("owner", os.getpid()), found.redis_url.get_secret_value(), serving))
            yield found
        finally:
            ignore_signals()
            (var / Address.FILE).unlink(missing_ok=True)
            processes.stop(last=VALKEY)


def _write(var: Path, told: Address) -> None:
    partial = var / f"{Address.FILE}.partial"
    partial.write_text(json.dumps(asdict(told), indent=1))
    partial.rename(var / Address.FILE)


def _with_valkey(processes: Processes, settings: Settings, path: Path) -> Settings:
    words = components.valkey_words(settings.var, "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700")
    processes.start(VALKEY, words, os.environ, Path.cwd())
    client = redis.Redis(unix_socket_path=str(path))
    processes.wait_until(VALKEY, lambda: components.valkey_answers(client), START_SECONDS)
    return settings.model_copy(update={"redis_url": SecretStr(f"unix://{quote(str(path))}")})


def _with_service(processes: Processes, settings: Settings) -> Settings:
    port = free_port()
    own = settings.model_copy(update={"var": settings.var, "world": settings.world, "service_logs": settings.log_dir})
    url = f"http://{HOST}:{port}"
    processes.start(SERVICE, components.service_words(port), os.environ | environment_of(own), Path.cwd())
    processes.wait_until(SERVICE, lambda: components.service_answers(url), START_SECONDS)
    return settings.model_copy(update={"service_url": url})
