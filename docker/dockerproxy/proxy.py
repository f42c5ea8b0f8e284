"""Stands between Airflow and the Docker engine: listens on a port, asks :mod:`policy`, forwards to the engine's socket.

One request a connection, put together anew: neither a header nor a second request of the client reaches the engine. Output of
containers is passed on as it comes; nothing is passed to their input. Settings are environment variables, see :func:`settings`.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
from http import HTTPStatus
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from policy import LABEL, Allowed, Forward, RefusedError, judge

log = logging.getLogger("dockerproxy")

MAX_HEAD, MAX_BODY = 16_384, 65_536
HEAD_SECONDS = 30.0


def settings() -> Allowed:
    """From the environment: NIGHTSHIFT_STACK, _IMAGE, _NETWORK, _MOUNTS (``/path=volume,…``), _MEMORY (bytes)."""
    values = {name: os.environ[f"NIGHTSHIFT_{name.upper()}"] for name in ("stack", "image", "network", "mounts", "memory")}
    mounts = dict(pair.split("=", 1) for pair in values["mounts"].split(","))
    return Allowed(values["stack"], values["image"], values["network"], mounts, int(values["memory"]))


class Proxy:
    """Serves clients.

    Args:
        socket: path of the engine's socket.
    """

    def __init__(self, allowed: Allowed, socket: str) -> None:
        self._allowed, self._socket = allowed, socket

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                method, target, body = await _read_request(reader)
            forward = judge(method, target, body, self._allowed)
            if forward.container:
                await self._check_owner(forward.container)
            # The health check asks every few seconds.
            log.log(logging.DEBUG if forward.target == "/_ping" else logging.INFO, "%s %s", forward.method, forward.target)
            await self._relay(forward, reader, writer)
        except RefusedError as error:
            log.warning("refused: %s", error)
            _answer(writer, HTTPStatus.FORBIDDEN, f"refused: {error}")
        except OSError as error:
            log.error("the engine does not answer: %s", error)
            _answer(writer, HTTPStatus.BAD_GATEWAY, "the Docker engine does not answer")
        except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            _answer(writer, HTTPStatus.BAD_REQUEST, "the request cannot be read")
        finally:
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

    async def _check_owner(self, container: str) -> None:
        """See that a container was made through here."""
        upstream, sender = await asyncio.open_unix_connection(self._socket)
        try:
            sender.write(_head("GET", f"/containers/{container}/json", b"", upgrade=False))
            head = await upstream.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status == HTTPStatus.NOT_FOUND:
                return  # The engine says so itself.
            content = await upstream.read()
            labels = json.loads(_unchunked(head, content))["Config"]["Labels"] or {} if status == HTTPStatus.OK else {}
        finally:
            sender.close()
        if labels.get(LABEL) != self._allowed.stack:
            raise RefusedError("the container is none of the simulation's")

    async def _relay(self, forward: Forward, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, sender = await asyncio.open_unix_connection(self._socket)
        try:
            sender.write(_head(forward.method, forward.target, forward.body, forward.upgrade))
            await sender.drain()
            tasks = [asyncio.ensure_future(_copy(upstream, writer)), asyncio.ensure_future(_until_gone(reader))]
            _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            sender.close()


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    method, target, version = lines[0].split(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise ValueError(version)
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)]
    lengths = [int(value) for name, value in headers if name == "content-length"]
    if any(name == "transfer-encoding" for name, _ in headers) or len(lengths) > 1 or sum(lengths) > MAX_BODY:
        raise RefusedError(f"a body must have one length, of at most {MAX_BODY} bytes")
    return method, target, await reader.readexactly(lengths[0]) if lengths else b""


def _head(method: str, target: str, body: bytes, upgrade: bool) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: docker"]
    lines += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else ["Connection: close"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    elif method == "POST":
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _unchunked(head: bytes, content: bytes) -> bytes:
    if b"chunked" not in head.lower():
        return content
    found = b""
    while content:
        size, _, content = content.partition(b"\r\n")
        length = int(size, 16)
        found, content = found + content[:length], content[length + 2 :]
    return found


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()


async def _until_gone(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


def _answer(writer: asyncio.StreamWriter, status: HTTPStatus, message: str) -> None:
    body = json.dumps({"message": message}).encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)


async def main() -> None:
    """Serve until the process is ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    proxy = Proxy(settings(), os.environ.get("NIGHTSHIFT_SOCKET", "/var/run/docker.sock"))
    # Inside its container it serves the container's network, and nothing is published.
    host, port = os.environ.get("NIGHTSHIFT_HOST", "0.0.0.0"), int(os.environ.get("NIGHTSHIFT_PORT", "2375"))  # noqa: S104
    server = await asyncio.start_server(proxy.serve, host, port, limit=MAX_HEAD)
    log.info("listening on %s:%d", *server.sockets[0].getsockname()[:2])
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
