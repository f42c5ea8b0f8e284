"""The proxy's wire: what reaches the engine, what comes back, and whose containers may be touched. A recorder stands for the
engine, because a real one cannot be made to say what it was sent; tests/stack has the real one.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.test_policy import BODY, ID
from tests.support.components import free_port

PROXY = Path(__file__).parents[2] / "docker" / "dockerproxy" / "proxy.py"
OWN, OTHER = ID, "f" * 64


class Engine:
    """Notes every request; answers an inspection with a label, an attachment with two pieces of output, others with {}."""

    def __init__(self, path: Path) -> None:
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            while len(body) < length:
                body += connection.recv(65536)
            self.heads.append(head.decode())
            self.bodies.append(body)
            if b"/attach" in head:
                connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nfirst ")
                time.sleep(0.3)
                connection.sendall(b"second")
                return
            stack = "night" if OWN.encode() in head else "another"
            answer = json.dumps({"Config": {"Labels": {"org.nightshift.stack": stack}}}).encode()
            if b"/json HTTP" in head:
                answer = b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer), answer)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + answer)
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(tmp_path_factory.mktemp("e") / "s")


@pytest.fixture
def proxy(engine: Engine) -> Iterator[int]:
    """Port of a proxy in front of the recorder."""
    port = free_port()
    environment = os.environ | {
        "NIGHTSHIFT_STACK": "night",
        "NIGHTSHIFT_IMAGE": "sim",
        "NIGHTSHIFT_NETWORK": "night_simulation",
        "NIGHTSHIFT_MOUNTS": "/world=night_world",
        "NIGHTSHIFT_MEMORY": str(2 * 2**30),
        "NIGHTSHIFT_HOST": "127.0.0.1",
        "NIGHTSHIFT_PORT": str(port),
        "NIGHTSHIFT_SOCKET": engine._listener.getsockname(),
    }
    with subprocess.Popen([sys.executable, str(PROXY)], env=environment) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def send(port: int, data: bytes) -> bytes:
    """Everything that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    return found


def request(method: str, target: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_what_was_checked_is_what_is_sent(proxy: int, engine: Engine) -> None:
    body = json.dumps(BODY).encode()
    answer = send(proxy, request("POST", "/v1.41/containers/create", body, "X-Registry-Auth: secret"))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"{}")
    assert engine.heads[0].split("\r\n")[0] == "POST /v1.41/containers/create HTTP/1.1"
    assert "Registry" not in engine.heads[0]
    assert json.loads(engine.bodies[0])["HostConfig"]["CapDrop"] == ["ALL"]


def test_a_second_request_behind_the_first_reaches_nobody(proxy: int, engine: Engine) -> None:
    send(proxy, request("GET", "/version") + request("GET", "/containers/json"))
    assert [head.split(" ")[1] for head in engine.heads] == ["/version"]


@pytest.mark.parametrize(
    "data",
    [
        request("GET", "/containers/json"),
        request("POST", "/containers/create", b'{"Image": "sim", "HostConfig": {"Privileged": true}}'),
        b"POST /containers/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 9999\r\n\r\n{}",
        b"POST /containers/create HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nContent-Length: -1\r\n\r\n{}",
        b"GET /_ping\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
)
def test_nothing_of_a_refused_request_reaches_the_engine(proxy: int, engine: Engine, data: bytes) -> None:
    assert send(proxy, data).split(b" ")[1] in (b"400", b"403")
    assert engine.heads == []


def test_only_containers_of_this_stack_may_be_touched(proxy: int, engine: Engine) -> None:
    assert send(proxy, request("POST", f"/containers/{OWN}/start")).startswith(b"HTTP/1.1 200")
    answer = send(proxy, request("POST", f"/v1.41/containers/{OTHER}/kill?signal=KILL"))
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"none of the simulation" in answer
    assert [head.split(" ")[1] for head in engine.heads] == [
        f"/containers/{OWN}/json",
        f"/containers/{OWN}/start",
        f"/containers/{OTHER}/json",
    ]


def test_output_comes_through_as_it_is_made(proxy: int) -> None:
    data = request("POST", f"/containers/{OWN}/attach?stdout=1&stream=1", b"", "Connection: Upgrade", "Upgrade: tcp")
    assert send(proxy, data).endswith(b"first second")


@pytest.mark.drill("Docker engine", "away behind its proxy", "the answer says so")
def test_without_an_engine_the_answer_says_so(proxy: int, engine: Engine) -> None:
    Path(engine._listener.getsockname()).unlink()
    assert send(proxy, request("GET", "/version")).startswith(b"HTTP/1.1 502")
