"""Parts of a command's own while it runs: a Valkey, persistent in ``<var>/valkey`` and reached over a unix socket, and a service.

They are recorded as a platform's are, so that whatever comes next on the directory ends what a kill has left.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import redis
from pydantic import SecretStr

from recsys.platform import components
from recsys.platform.ports import HOST, free_port
from recsys.platform.processes import Processes, sole_owner
from recsys.settings import Settings, environment_of

START_SECONDS = 60.0
VALKEY, SERVICE = "valkey", "service"


@contextmanager
def embedded(settings: Settings, *, service: bool) -> Iterator[Settings]:
    """The settings with a Valkey of their own behind them while the block runs, and with a service too if asked for.

    Raises:
        ConflictError: another command runs something on the directory. UnavailableError: a part does not start.
    """
    var = settings.var.resolve()
    # A socket's path may have 107 characters at most, so it cannot stand below an arbitrary directory.
    with sole_owner(var) as ignore_signals, tempfile.TemporaryDirectory(prefix="recsys-") as sockets:
        processes = Processes(var)
        try:
            found = _with_valkey(processes, settings, Path(sockets) / "valkey.sock")
            yield _with_service(processes, found) if service else found
        finally:
            ignore_signals()
            processes.stop(last=VALKEY)


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
