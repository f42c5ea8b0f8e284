"""Starting the service: checks that name what is wrong, then workers that share a catalogue and, with a socket each, a port."""

import gc
import os
import socket
import tempfile

from recsys.exceptions import InvalidInputError, Stopped, UnavailableError
from recsys.service.supervisor import Workers
from recsys.settings import Settings
from recsys.versions import keyspace

#: Seconds after which a client that does not take what it is sent is cut off.
SENDING_SECONDS = 30


def serve(settings: Settings, host: str, port: int, workers: int = 1) -> None:
    """Serve until a signal comes; requests under way are finished.

    Raises:
        WorldError: the world's files are missing or malformed. UnavailableError: Redis does not answer, or the port is in use.
        InvalidInputError: the host is none of this machine's; the log directory cannot be made. Stopped: a signal came.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-metrics-") as meters:
        if workers > 1:
            # Where the workers' counters stand, so that /metrics of any of them answers for all; read by the import below.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = meters
        from recsys.service.app import App
        from recsys.service.worker import work

        app = App(settings)
        keyspace.connect(settings).close()
        _make_logs(settings)
        sockets = _bind(host, port, workers)

        def begin(number: int, parent: int) -> None:
            for other in sockets[:number] + sockets[number + 1 :]:
                other.close()
            work(app, sockets[number], parent)

        def close() -> None:
            for each in sockets:
                each.close()

        # What all workers share stays in shared memory if no garbage collection goes over it.
        gc.collect()
        gc.freeze()
        number = Workers(workers, begin, close).run()
    raise Stopped(number)


def _make_logs(settings: Settings) -> None:
    try:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"log directory {str(settings.log_dir)!r} cannot be made ({error.strerror})") from None


def _bind(host: str, port: int, count: int) -> list[socket.socket]:
    """Sockets on one address, among which the system deals new connections; not yet listening.

    Each outlives its worker: connections that wait for one that died are taken by the next.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror:
        raise InvalidInputError(f"host {host!r} is not an address of this machine") from None
    try:
        # Alone first: sockets that share a port would also share it with those of another service.
        _socket(family, address, shared=False).close()
        return [_socket(family, address, shared=count > 1) for _ in range(count)]
    except OSError as error:
        raise UnavailableError(f"port {port} on {host} cannot be used ({error.strerror}); choose another --port") from None


def _socket(family: socket.AddressFamily, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SENDING_SECONDS * 1000)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
