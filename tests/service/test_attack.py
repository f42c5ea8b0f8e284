"""Clients that mean harm, as bytes on sockets to a running service: others are answered, memory is bounded, lines are whole."""

import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from recsys.service.edge import BODY_SECONDS
from recsys.service.worker import GRACE, HEAD_SECONDS, MAX_HEAD
from tests.service.test_service import LINE_FIELDS, Stage, serving, wait_until
from tests.support.components import Valkey, running

pytestmark = [pytest.mark.real, pytest.mark.slow]

NEXT = b'POST /next/3 HTTP/1.1\r\nHost: h\r\nContent-Length: 25\r\n\r\n{"track": 1, "time": 0.5}'
CHUNKED = b'POST /next/3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"tra\r\n'
METRICS = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
HELD = 3000
#: Seconds in which others are answered, on a machine that does much else: the attacks made them wait 16 s and longer.
PATIENCE = 5.0
MIB = 2**20
#: Bytes that thousands of connections which have broken off may leave: 7 KiB each were 20 MiB.
LEFT_BEHIND = 6 * MIB
#: Connections that break off before it is seen that their files are closed.
AT_ONCE = 50
#: Times the memory that a worker has at rest, under any attack, and where each of the held connections may take bytes beside.
MOST_MEMORY, MOST_OF_HELD, MOST_OF_A_CONNECTION = 1.5, 1.1, 12 * 1024


class Others:
    """Clients who want a health check all the time, over new connections and kept ones, and somebody who looks at the memory."""

    def __init__(self, port: int, process: psutil.Process) -> None:
        self._port, self._process, self._over = port, process, threading.Event()
        self.seconds: list[float] = []
        self.memory = 0
        self.errors: list[Exception] = []
        watched = (self._ask_anew, self._ask_again, self._look)
        self._threads = [threading.Thread(target=self._until_over, args=(each,)) for each in watched]
        self._kept = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def _until_over(self, act: Callable[[], None]) -> None:
        while not self._over.wait(0.02):
            try:
                act()
            except Exception as error:
                self.errors.append(error)
                return

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        began = time.monotonic()
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"alive"}'
        self.seconds.append(time.monotonic() - began)

    def _ask_anew(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._ask(connection)
        connection.close()

    def _ask_again(self) -> None:
        self._ask(self._kept)

    def _look(self) -> None:
        self.memory = max(self.memory, self._process.memory_info().rss)

    def __enter__(self) -> "Others":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._kept.close()


class Field:
    """A service under attack."""

    def __init__(self, stage: Stage, output: Path) -> None:
        assert stage.service.process is not None
        self.stage, self.output, self.port = stage, output, stage.service.port
        (self.worker,) = psutil.Process(stage.service.process.pid).children()
        for _ in range(50):  # what a first request needs is there at rest
            stage.service.post("/next/3", {"track": 1, "time": 0.5})
            with suppress(ValueError):
                stage.service.get("/metrics")
        self.rest = self.worker.memory_info().rss

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    @contextmanager
    def harmless(self, at_least: int = 10, held: int = 0) -> Iterator[None]:
        """What happens in the block, which holds so many connections, does no harm."""
        with Others(self.port, self.worker) as others:
            yield
            asked = len(others.seconds)
            wait_until(lambda: len(others.seconds) >= asked + at_least or bool(others.errors), 60)
        assert others.errors == []
        assert max(others.seconds) < PATIENCE
        assert others.memory < (MOST_OF_HELD if held else MOST_MEMORY) * self.rest + held * MOST_OF_A_CONNECTION
        assert self.worker.is_running()
        assert self.stage.service.post("/next/3", {"track": 1, "time": 0.5})[0] == 200

    def lines(self) -> int:
        """How many lines the log has, each of them whole."""
        records = self.stage.records("live")
        assert all(tuple(record) == LINE_FIELDS for record in records)
        return len(records)


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[None]:
    """Tests hold thousands of connections, and so does the service, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def attacked(directory: Path) -> Iterator[Field]:
    output = directory / "output"
    with running(Valkey(directory)) as valkey, serving(directory, valkey, output=output) as stage:
        field = Field(stage, output)
        yield field
        field.lines()
    told = output.read_text()
    assert "Traceback" not in told
    assert len(told) < 20_000


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with attacked(tmp_path_factory.mktemp("field")) as field:
        yield field


def push(connection: socket.socket, data: bytes, most: int) -> int:
    """Send again and again, without reading, until the other side takes no more; the bytes that it took."""
    connection.settimeout(2)
    sent = 0
    with suppress(OSError):
        while sent < most:
            sent += connection.send(data)
    return sent


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(MIB):
            received += data
    return received


def test_a_client_that_never_reads_is_not_read(field: Field) -> None:
    before = field.lines()
    with field.connect() as few, field.connect() as many, field.harmless():
        few.sendall(NEXT * (54_000 // len(NEXT)))
        many.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sent = push(many, NEXT * 1000, 256 * MIB)
        assert sent < 256 * MIB
    # Nothing is done that was not asked, however often.
    assert field.lines() - before <= (54_000 + sent) // len(NEXT) + 1


def test_a_head_that_never_ends_is_not_taken(field: Field) -> None:
    with field.connect() as header, field.connect() as headers, field.connect() as target, field.harmless():
        header.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX: ")
        headers.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n")
        target.sendall(b"GET /")
        for connection, data in ((header, b"x" * 4096), (headers, b"x: y\r\n" * 1000), (target, b"x" * 4096)):
            # What the systems on both sides hold is not the service's.
            assert push(connection, data, 82 * MIB) < 16 * MIB + 2 * MAX_HEAD
            assert read_all(connection)[:13] in (b"HTTP/1.1 431 ", b"")


def test_pipelined_metrics_are_not_counted_one_by_one(field: Field) -> None:
    with field.connect() as reading, field.connect() as silent, field.harmless():
        silent.sendall(METRICS * (MIB // 4 // len(METRICS)))
        reading.sendall(METRICS * 99 + METRICS.replace(b"Host", b"Connection: close\r\nHost"))
        assert read_all(reading).count(b"HTTP/1.1 200 ") == 100


def test_thousands_of_held_connections_leave_room_for_others(field: Field) -> None:
    before = field.worker.num_fds()
    for _ in range(3):  # the next ones take no more than the first
        with ExitStack() as held, field.harmless(held=HELD):
            for number in range(HELD):
                connection = held.enter_context(field.connect())
                connection.sendall((b"", b"GET /hea", NEXT[:-5])[number % 3])
        wait_until(lambda: field.worker.num_fds() <= before + 2, 30)
    assert field.worker.memory_info().rss < MOST_OF_HELD * field.rest


def test_who_takes_too_long_is_cut_off(field: Field) -> None:
    """A head that comes letter by letter, one that does not come at all, and a body that stops."""
    with field.connect() as slow, field.connect() as silent, field.connect() as idle, field.connect() as body, field.harmless():
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        body.sendall(NEXT[:-5])
        began = time.monotonic()
        with suppress(ConnectionResetError, BrokenPipeError):
            while time.monotonic() - began < 3 * HEAD_SECONDS:
                slow.sendall(b"G")
                time.sleep(0.5)
        assert time.monotonic() - began < 3 * HEAD_SECONDS
        assert read_all(silent) == b""
        assert read_all(idle).count(b"HTTP/1.1") == 1
        assert read_all(body).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 3 * (HEAD_SECONDS + BODY_SECONDS)


def test_what_is_thrown_at_it_is_refused_and_costs_nothing(field: Field) -> None:
    """Bodies that are too large, bodies that break off, and things that are no requests, hundreds of each."""
    big = b"POST /next/3 HTTP/1.1\r\nHost: h\r\nContent-Length: 1100000\r\n\r\n" + b" " * 1_100_000
    before = field.lines()
    with field.harmless():
        for number in range(300):
            with field.connect() as connection, suppress(OSError):
                connection.sendall((big, b"\x16\x03\x01\x02\x00\x01" * 100, NEXT[:-5], b"\r\n" * 5000)[number % 4])
                if number % 8 < 4 and number % 4 < 2:
                    assert b"HTTP/1.1 4" in connection.recv(100)
    assert field.lines() == before + 1  # the one of a good client


@pytest.mark.parametrize("sent", [b"", b"GET /hea", NEXT[:-5], CHUNKED], ids=["nothing", "half a head", "half a body", "a chunk"])
def test_what_breaks_off_leaves_nothing_behind(field: Field, sent: bytes) -> None:
    open_files = field.worker.num_fds()

    def break_off(times: int) -> int:
        for number in range(times):
            with field.connect() as connection:
                connection.sendall(sent)
            if number % AT_ONCE == 0:  # what many at once take is kept for the next ones: another test's matter
                wait_until(lambda: field.worker.num_fds() <= open_files + 2, 60)
        wait_until(lambda: field.stage.service.get("/healthz")[0] == 200)
        return field.worker.memory_info().rss

    before = break_off(1000)
    assert break_off(3000) - before < LEFT_BEHIND


def test_nobody_keeps_it_from_ending(tmp_path: Path) -> None:
    with attacked(tmp_path) as field, field.connect() as silent, field.connect() as slow, field.connect() as body:
        push(silent, NEXT * 1000, 256 * MIB)
        slow.sendall(b"GET / HTTP/1.1\r\n")
        body.sendall(NEXT[:-5])
        began = time.monotonic()
        field.stage.service.end()
        assert time.monotonic() - began < GRACE + 4 * PATIENCE
        assert not field.worker.is_running()
        for line in (field.stage.logs / "live").glob("*.jsonl"):
            assert all(json.loads(text) for text in line.read_text().splitlines())
