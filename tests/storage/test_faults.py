"""What happens to a publication when something breaks: never a visible part of it, never a lost line, and the rerun succeeds."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recsys.exceptions import ConflictError, RecsysError, UnavailableError
from recsys.platform.hdfs import Hdfs
from recsys.storage.store import Storage
from tests.support.hdfs import SCHEMES
from tests.support.uploader import publish

FILES, KIB = 4, 1280
MOMENTS, MANY = 10, 40
LOST, UNSENT, REFUSED = "lost", "unsent", "refused"


@pytest.fixture(autouse=True)
def _scratch(scratch: Path) -> None:
    pass


@contextmanager
def proxy(target: str, fault: str, times: int = 1) -> Iterator[str]:
    """An HTTP proxy to the NameNode that spoils the first renames: their reply is lost, they are not sent, or are refused."""
    left = [times]

    class Handler(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            spoiled = "op=RENAME" in self.path and left[0] > 0
            left[0] -= spoiled
            if spoiled and fault == UNSENT:
                self.close_connection = True
                return
            if spoiled and fault == REFUSED:
                self._answer(200, {"Content-Type": "application/json"}, b'{"boolean": false}')
                return
            request = urllib.request.Request(target + self.path, method=self.command)
            try:
                with opener.open(request) as answer:
                    found = answer.status, dict(answer.headers), answer.read()
            except urllib.error.HTTPError as error:
                found = error.code, dict(error.headers), error.read()
            if spoiled:
                self.close_connection = True
                return
            self._answer(*found)

        do_GET = do_PUT = do_POST = do_DELETE = _forward

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() in ("content-type", "location"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    opener = urllib.request.build_opener(Stay)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"webhdfs://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=SCHEMES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/store" if request.param == "file" else str(request.getfixturevalue("hdfs_root"))


def listed(store: Storage, directory: str) -> list[str]:
    return [entry.name for entry in store._entries(f"{store.root}/{directory}".rstrip("/"))]


@pytest.mark.drill("uploader", "killed at ten moments", "nothing half-visible; the rerun completes it and removes what was left")
@pytest.mark.slow
def test_an_uploader_killed_at_any_moment_leaves_nothing_half_visible(url: str, tmp_path: Path) -> None:
    expected = publish(f"file://{tmp_path}/expected", "logs/x", FILES, KIB)
    store = Storage(url)
    began = time.monotonic()
    publish(url, "logs/undisturbed", FILES, KIB)
    whole = time.monotonic() - began
    visible = 0
    for moment in range(MOMENTS):
        name = f"logs/date=2026-01-{moment + 1:02d}"
        words = [sys.executable, "-m", "tests.support.uploader", url, name, str(FILES), str(KIB)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(whole * (moment + 0.5) / MOMENTS)
            process.kill()
        if store.is_complete(name):
            visible += 1
            assert store.manifest(name).checksum == expected
            store.local(name)
        assert publish(url, name, FILES, KIB) == expected
        store.local(name)
    assert visible < MOMENTS
    assert len(listed(store, "logs")) == MOMENTS + 1  # no leftover
    assert len(store.dates("logs")) == MOMENTS


@pytest.mark.drill("uploader", "killed while it replaces a directory", "the old or the new one is there, never a mixture")
def test_a_replacement_killed_at_any_moment_never_shows_a_mixture(url: str, tmp_path: Path) -> None:
    new = publish(f"file://{tmp_path}/expected", "logs/x", 2, 64)
    store = Storage(url)
    name = "logs/date=2026-01-02"
    for moment in range(3):
        with store.stage(name) as staging:
            (staging / "old.txt").write_text("old")
        old = store.manifest(name).checksum
        with subprocess.Popen(
            [sys.executable, "-m", "tests.support.uploader", url, name, "2", "64"], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.02 * moment)
            process.kill()
        if store.is_complete(name):
            assert store.manifest(name).checksum in (old, new)
            store.local(name)
        assert publish(url, name, 2, 64) == new


@pytest.mark.drill("uploader", "another one publishes the same directory first", "an error; nothing nests")
def test_a_directory_published_by_another_meanwhile_is_not_nested(url: str) -> None:
    store = Storage(url)
    store.fs.makedirs(f"{store.root}/a")
    store.fs.makedirs(f"{store.root}/b/inner")
    with pytest.raises(ConflictError, match="exists already"):
        store._rename(f"{store.root}/a", f"{store.root}/b")
    assert listed(store, "b") == ["inner"]
    with pytest.raises(FileNotFoundError):
        store._rename(f"{store.root}/nothing", f"{store.root}/c")


@pytest.mark.drill("HDFS", "the reply to a rename, or its request, is lost", "the upload notices which and completes")
@pytest.mark.real
@pytest.mark.parametrize("fault", [LOST, UNSENT])
def test_a_rename_whose_reply_or_request_is_lost_still_publishes(hdfs: Hdfs, hdfs_root: str, fault: str) -> None:
    path = hdfs_root.removeprefix(hdfs.url)
    with proxy(hdfs.url.replace("webhdfs", "http"), fault) as address:
        checksum = publish(address + path, "logs/date=2026-01-02", 2, 64)
        # And once more: this replaces nothing.
        assert publish(address + path, "logs/date=2026-01-02", 2, 64) == checksum
        with proxy(hdfs.url.replace("webhdfs", "http"), fault, times=2) as other:
            assert publish(other + path, "logs/date=2026-01-02", 3, 64) != checksum
    store = Storage(hdfs_root)
    assert listed(store, "logs") == ["date=2026-01-02"]
    assert len(listed(store, ".trash")) == 1
    store.local("logs/date=2026-01-02")


@pytest.mark.drill("HDFS", "a rename is refused", "the upload fails by name and shows nothing")
@pytest.mark.real
def test_a_refused_rename_is_an_error(hdfs: Hdfs, hdfs_root: str) -> None:
    path = hdfs_root.removeprefix(hdfs.url)
    with (
        proxy(hdfs.url.replace("webhdfs", "http"), REFUSED) as address,
        pytest.raises(UnavailableError, match="refused to rename"),
    ):
        publish(address + path, "logs/date=2026-01-02", 2, 64)
    assert listed(Storage(hdfs_root), "logs") == []


@pytest.mark.drill("HDFS", "DataNode killed during an upload", "the upload fails by name and shows nothing; the rerun succeeds")
@pytest.mark.real
def test_a_datanode_killed_during_an_upload(hdfs: Hdfs, hdfs_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_HDFS_PATIENCE", "1")
    failed: list[RecsysError] = []

    def attempt() -> None:
        try:
            publish(hdfs_root, "logs/date=2026-01-02", MANY, 64)
        except RecsysError as error:
            failed.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    wait_for_files(hdfs_root, 3)
    hdfs.kill("datanode")
    thread.join()
    assert isinstance(failed[0], UnavailableError)
    assert "gave up" in str(failed[0])
    store = Storage(hdfs_root)
    assert not store.is_complete("logs/date=2026-01-02")
    monkeypatch.setenv("RECSYS_HDFS_PATIENCE", "60")
    thread = threading.Thread(target=attempt)
    thread.start()
    hdfs.launch("datanode")
    thread.join()
    assert len(failed) == 1
    Storage(hdfs_root).local("logs/date=2026-01-02")


@pytest.mark.drill("HDFS", "NameNode restarted during an upload", "the upload waits and completes")
@pytest.mark.real
def test_a_namenode_restarted_during_an_upload_only_delays_it(hdfs: Hdfs, hdfs_root: str) -> None:
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(publish(hdfs_root, "logs/date=2026-01-02", MANY, 64)))
    thread.start()
    wait_for_files(hdfs_root, 3)
    hdfs.kill("namenode")
    hdfs.launch("namenode")
    thread.join()
    hdfs.wait()
    assert len(done) == 1
    Storage(hdfs_root).local("logs/date=2026-01-02")


def safe_mode(hdfs: Hdfs, action: str) -> None:
    words = [*hdfs.words("namenode")[:-1], "org.apache.hadoop.hdfs.tools.DFSAdmin", "-safemode", action]
    subprocess.run(words, check=True, capture_output=True)


@pytest.mark.drill("HDFS", "in safe mode", "an upload waits and completes; one without patience names it and shows nothing")
@pytest.mark.real
def test_safe_mode_delays_an_upload(hdfs: Hdfs, hdfs_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    store = Storage(hdfs_root)
    store.fs.makedirs(f"{store.root}/logs")
    safe_mode(hdfs, "enter")
    try:
        monkeypatch.setenv("RECSYS_HDFS_PATIENCE", "0.5")
        with pytest.raises(UnavailableError, match=r"gave up .* after 0\.5 s: .*safe mode"):
            publish(hdfs_root, "logs/date=2026-01-02", 1, 64)
        monkeypatch.setenv("RECSYS_HDFS_PATIENCE", "60")
        thread = threading.Thread(target=lambda: done.append(publish(hdfs_root, "logs/date=2026-01-02", 1, 64)))
        thread.start()
        time.sleep(0.5)
        assert not done
    finally:
        safe_mode(hdfs, "leave")
    thread.join()
    assert len(done) == 1
    store.local("logs/date=2026-01-02")
    assert listed(store, "logs") == ["date=2026-01-02"]


def wait_for_files(url: str, count: int) -> None:
    store = Storage(url)
    for _ in range(600):
        if any(len(listed(store, f"logs/{name}")) > count for name in listed(store, "logs")):
            return
        time.sleep(0.05)
    raise AssertionError("the upload did not begin")


@pytest.mark.drill("HDFS", "quota exceeded", "the error names the quota; the rerun succeeds once there is room")
@pytest.mark.real
def test_a_quota_that_is_exceeded_is_named_and_a_rerun_succeeds(hdfs: Hdfs, hdfs_root: str) -> None:
    store = Storage(hdfs_root)
    store.fs.makedirs(store.root)
    store.fs._call("SETQUOTA", "put", store.root, storagespacequota=str(3 * 2**20))
    with pytest.raises(UnavailableError, match="quota"):
        publish(hdfs_root, "logs/date=2026-01-02", FILES, KIB)
    assert listed(store, "logs") == []
    store.fs._call("SETQUOTA", "put", store.root, storagespacequota=str(2**40))
    publish(hdfs_root, "logs/date=2026-01-02", FILES, KIB)
    store.local("logs/date=2026-01-02")


@pytest.mark.real
def test_what_a_user_may_not_do_is_named(hdfs: Hdfs, hdfs_root: str) -> None:
    Storage(hdfs_root).fs.makedirs(Storage(hdfs_root).root)
    other = Storage(hdfs_root.replace("webhdfs://", "webhdfs://stranger@"))
    with pytest.raises(RecsysError, match="stranger"), other.stage("logs/date=2026-01-02"):
        pass


@pytest.mark.real
def test_hosts_that_a_client_cannot_resolve_are_replaced(hdfs: Hdfs, hdfs_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Storage(hdfs_root.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("RECSYS_HDFS_HOSTS", f"datanode=127.0.0.1, datanode:{hdfs.ports[3]} = 127.0.0.1:{hdfs.ports[3]}")
    mapped = Storage(hdfs_root).fs
    for given in (f"http://datanode:{hdfs.ports[3]}/x?a=b", f"http://127.0.0.1:{hdfs.ports[3]}/x?a=b"):
        assert mapped._reachable(given) == f"http://127.0.0.1:{hdfs.ports[3]}/x?a=b"
    publish(hdfs_root, "logs/date=2026-01-02", 1, 1)
    assert store.is_complete("logs/date=2026-01-02")


@pytest.mark.drill("HDFS", "away", "an error after RECSYS_HDFS_PATIENCE, not an empty storage")
def test_an_hdfs_that_is_away_is_an_error_and_not_an_empty_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_HDFS_PATIENCE", "0.3")
    with pytest.raises(UnavailableError, match="gave up"):
        Storage("webhdfs://127.0.0.1:9/x").is_complete("logs/date=2026-01-02")


LIMITED = """
import resource, sys
from tests.support.uploader import publish
from recsys.exceptions import UnavailableError
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
try:
    publish(sys.argv[1], "logs/date=2026-01-02", 4, 2048)
except UnavailableError as error:
    print(error)
else:
    sys.exit(3)
from recsys.storage.store import Storage
store = Storage(sys.argv[1])
assert not store.is_complete("logs/date=2026-01-02")
assert [e.name for e in store._entries(store.root + "/logs")] == []
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
publish(sys.argv[1], "logs/date=2026-01-02", 4, 2048 if sys.argv[2] == "limit" else 128)
store.local("logs/date=2026-01-02")
"""


@pytest.mark.drill(
    "disk of the storage", "full during an upload", "the error names it, nothing is shown; with room the rerun succeeds"
)
@pytest.mark.parametrize("way", ["limit", "tmpfs"])
def test_a_full_disk_is_named_and_a_rerun_succeeds(tmp_path: Path, way: str) -> None:
    words = [sys.executable, "-c", LIMITED, f"file://{tmp_path}/small/store", way]
    (tmp_path / "small").mkdir()
    if way == "tmpfs":
        # A mount of a namespace of its own ends with its process.
        inside = ["unshare", *([] if os.getuid() == 0 else ["--user", "--map-root-user"]), "--mount", "sh", "-c"]
        mount = f"mount -t tmpfs -o size=3m tmpfs '{tmp_path}/small'"
        if shutil.which("unshare") is None or subprocess.run([*inside, mount], check=False, capture_output=True).returncode:
            pytest.skip("this machine lets nobody mount a small tmpfs")
        words = [*inside, f'{mount} && exec "$@"', "sh", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search("no space is left below .*logs", done.stdout)
