"""Starting the service: checks that name what is wrong, then uvicorn with one or several workers."""

import os
import signal
import socket
import sys
import tempfile

import uvicorn

from recsys import catalog
from recsys.exceptions import InvalidInputError, UnavailableError
from recsys.service.protocol import HttpProtocol
from recsys.settings import Settings, hand_down
from recsys.versions import keyspace


def serve(settings: Settings, host: str, port: int, workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are finished.

    Raises:
        WorldError: the world's files are missing or malformed. UnavailableError: Redis does not answer.
        InvalidInputError: the port is in use.
    """
    catalog.load_tracks(settings.world)
    catalog.load_users(settings.world)
    keyspace.connect(settings).close()
    _check_port(host, port)
    # uvicorn raises the signal that ended it again, which by default would end this process before its callers have cleaned up.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # Workers are started afresh and read their settings from the environment.
    hand_down(settings)
    with tempfile.TemporaryDirectory(prefix="recsys-metrics-") as meters:
        if workers > 1:
            # Where the workers' counters stand, so that /metrics of any of them answers for all.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = meters
        _run(host, port, workers)


def _run(host: str, port: int, workers: int) -> None:
    uvicorn.run(
        "recsys.service.app:create",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http=HttpProtocol,
        access_log=False,
        log_level="warning",
        lifespan="on",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=10,
        backlog=2048,
    )


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror:
            raise InvalidInputError(f"host {host!r} is not an address of this machine") from None
        except OSError as error:
            raise UnavailableError(f"port {port} on {host} cannot be used ({error.strerror}); choose another --port") from None
