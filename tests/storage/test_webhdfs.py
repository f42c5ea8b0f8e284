"""Addresses of HDFS as they may be written; what a real HDFS does stands in test_faults.py."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from recsys.storage.store import Storage
from recsys.storage.webhdfs import StrictWebHdfs


class NameNode(BaseHTTPRequestHandler):
    """Has nothing, and says so as HDFS does."""

    def do_GET(self) -> None:
        body = json.dumps({"RemoteException": {"exception": "FileNotFoundException", "message": "nothing"}}).encode()
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class SixServer(HTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture
def port() -> Iterator[int]:
    """A port of the address ::1 on which a NameNode answers."""
    with suppress(OSError), SixServer(("::1", 0), NameNode) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
        return
    pytest.skip("this machine has no IPv6")


def test_a_name_node_may_have_an_ipv6_address(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_HDFS_PATIENCE", "0")
    assert Storage(f"webhdfs://ann@[::1]:{port}/x").is_complete("logs/date=2026-01-02") is False


@pytest.mark.parametrize(
    ("hosts", "location"),
    [
        ("datanode=[::1]", "http://[::1]:9864/x"),
        ("datanode=[::1]:19864", "http://[::1]:19864/x"),
        ("datanode=other", "http://other:9864/x"),
        ("datanode:9864=other:19864", "http://other:19864/x"),
    ],
)
def test_a_host_s_replacement_keeps_the_port_unless_it_has_its_own(
    monkeypatch: pytest.MonkeyPatch, hosts: str, location: str
) -> None:
    monkeypatch.setenv("RECSYS_HDFS_HOSTS", hosts)
    assert StrictWebHdfs("127.0.0.1")._reachable("http://datanode:9864/x") == location
