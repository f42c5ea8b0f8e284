"""A TCP proxy on 127.0.0.1 that can refuse, delay, stay silent, cut, and lose replies."""

import asyncio
from contextlib import suppress

from tests.nemesis.ending import end

HOST = "127.0.0.1"


class Proxy:
    """Stands at a port before another one.

    Attributes:
        delay: seconds that each reply waits. losing: how many replies get lost from now on, each with its connection.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.delay = 0.0
        self.losing = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._speaking = asyncio.Event()
        self._speaking.set()

    async def accept(self) -> None:
        """Take connections, at the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._pass, HOST, self.port, backlog=512)

    def refuse(self) -> None:
        """Cut what is connected, and refuse new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Cut what is connected."""
        for writer in self._open:
            writer.transport.abort()

    def silence(self, silent: bool) -> None:
        """Whether what comes is kept back, in both directions."""
        (self._speaking.clear if silent else self._speaking.set)()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind_reader, behind = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, behind}
        self._open |= pair
        try:
            ways = [self._copy(reader, behind, replies=False), self._copy(behind_reader, writer, replies=True)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await end(tasks)
        finally:
            self._open -= pair
            for each in pair:
                each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._speaking.wait()
                if replies and self.losing > 0:
                    self.losing -= 1
                    writer.transport.abort()
                    return
                if replies and self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
