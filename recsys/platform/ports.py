"""Ports of this machine: free ones, and whether those that the settings name are free."""

import socket

from recsys.exceptions import UnavailableError
from recsys.settings import Settings

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    return free_ports(1)[0]


def check_ports(settings: Settings) -> None:
    """See that every port is free.

    Raises:
        UnavailableError: one is in use; the message names it and the setting that changes it.
    """
    for variable, port in settings.platform_ports().items():
        with socket.socket() as probe:
            # A connection that ended a moment ago must not count as use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise UnavailableError(
                    f"port {port} on {HOST} cannot be used ({error.strerror}); end what listens there or set {variable}"
                ) from None
