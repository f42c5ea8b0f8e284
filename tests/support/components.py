"""Real components that tests start: a Valkey server, and a service that answers POSTs and GETs of theirs."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from recsys.platform import servers
from recsys.platform.ports import free_port
from recsys.platform.servers import Valkey, running


class Service(servers.Service):
    """The service, with a client."""

    def post(self, path: str, body: object, **headers: str) -> tuple[int, dict]:
        """Status and JSON answer of a POST."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return self._send(urllib.request.Request(self.url + path, data, headers))

    def get(self, path: str) -> tuple[int, dict]:
        """Status and JSON answer of a GET."""
        return self._send(urllib.request.Request(self.url + path))

    def _send(self, request: urllib.request.Request) -> tuple[int, dict]:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, orjson.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, orjson.loads(error.read())


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey server of this test's own."""
    with running(Valkey(tmp_path)) as server:
        yield server


__all__ = ["Service", "Valkey", "free_port", "running", "valkey"]
