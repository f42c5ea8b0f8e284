"""HDFS over HTTP, as fsspec speaks it, but strict: nothing that failed passes for success, and what may heal is tried again.

fsspec's own implementation drops the boolean by which a rename says that it failed, lets a rename into an existing directory
nest, takes any error for "does not exist", reads without looking at the status, and waits for ever. Here

* a rename asks for the operation that refuses an existing destination, and if its reply is lost looks whether it happened;
* files are written by one request each, so that a repeated one replaces what the first has left;
* time-outs, lost connections, safe mode and missing DataNodes are retried for ``HdfsOptions.patience`` seconds.
"""

import getpass
import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import requests
from fsspec.implementations.webhdfs import WebHDFile, WebHDFS

from recsys import urls
from recsys.exceptions import ConflictError, InvalidInputError, UnavailableError
from recsys.settings import load_hdfs_options
from recsys.storage.layout import plain_user

log = logging.getLogger(__name__)

T = TypeVar("T")

READ_BLOCK = 16 * 2**20
BINARY = {"Content-Type": "application/octet-stream"}
#: Names of exceptions that will be the same next time; the server's others (a NameNode in safe mode or restarting, a DataNode
#: lost in the middle of a block) come under too many names to list, and pass.
_LASTING = re.compile("Illegal|Invalid|Unsupported|Limit|NotEmpty|Security|AccessControl|Authentication|Authorization")
TRIED_AGAIN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class PassingError(UnavailableError):
    """The server is not able to answer now, but may be soon."""


class StrictWebHdfs(WebHDFS):  # type: ignore[misc]
    """An fsspec filesystem of one NameNode.

    Args:
        host: the NameNode. port: of its HTTP server. user: acts as this user; default RECSYS_HDFS_USER, else the process's.
    """

    cachable = False
    session: requests.Session

    def __init__(self, host: str, port: int = 9870, user: str | None = None) -> None:
        self.options = load_hdfs_options()
        user = plain_user(user or self.options.user or getpass.getuser())
        self._hosts = self.options.host_map
        self._timeouts = (min(self.options.timeout, 10.0), self.options.timeout)
        super().__init__(urls.bracketed(host), port=port, user=user, data_proxy=self._reachable)

    def _reachable(self, location: str) -> str:
        """The URL with its host, or host:port, replaced as the settings say."""
        parts = urlsplit(location)
        wanted = self._hosts.get(parts.netloc) or self._hosts.get(parts.hostname or "")
        if not wanted:
            return location
        has_port = ":" in wanted.rpartition("]")[2]
        netloc = wanted if has_port or parts.port is None else f"{wanted}:{parts.port}"
        return urlunsplit(parts._replace(netloc=netloc))

    def _call(
        self,
        op: str,
        method: str = "get",
        path: str | None = None,
        data: bytes | None = None,
        redirect: bool = True,
        **kwargs: str | int,
    ) -> requests.Response:
        return self._patiently(lambda: self._once(op, method, path, data, redirect, **kwargs), f"{op} {path or ''}")

    def _once(
        self, op: str, method: str, path: str | None, data: bytes | None = None, redirect: bool = True, **kwargs: str | int
    ) -> requests.Response:
        url = self.url + quote(self._strip_protocol(path) if path else "/", safe="/=")
        parameters = {**kwargs, **self.pars, "op": op.upper()}
        answer = self.session.request(
            method.upper(), url, params=parameters, data=data, allow_redirects=False, timeout=self._timeouts
        )
        self._check(answer, op, path)
        if redirect and "Location" in answer.headers:
            location = self._apply_proxy(answer.headers["Location"])
            answer = self.session.request(method.upper(), location, data=data, timeout=self._timeouts)
            self._check(answer, op, path)
        return answer

    def _check(self, answer: requests.Response, op: str, path: str | None) -> None:
        if answer.status_code < 400:
            return
        try:
            remote = answer.json()["RemoteException"]
            name, message = str(remote["exception"]), str(remote["message"]).strip().splitlines()[0]
        except (ValueError, KeyError, IndexError, TypeError):
            name, message = "", f"status {answer.status_code} {answer.reason}"
        what = f"{op} {path or ''} on {self.url}: {name or 'HTTP'}: {message}"
        if "Quota" in name or "quota" in message:
            raise UnavailableError(f"{what}; raise the quota or run 'recsys storage clean'")
        if name == "FileNotFoundException" or (not name and answer.status_code == 404):
            raise FileNotFoundError(what)
        if name in ("FileAlreadyExistsException", "ParentNotDirectoryException"):
            raise FileExistsError(what)
        if name in ("AccessControlException", "SecurityException"):
            raise InvalidInputError(f"{what}; user {self.user!r} may not do that (RECSYS_HDFS_USER names another)")
        if _LASTING.search(name) or (not name and answer.status_code < 500):
            raise UnavailableError(what)
        raise PassingError(what)

    def _patiently(self, act: Callable[[], T], what: str) -> T:
        """Act again, with growing pauses, while it fails by something that passes."""
        deadline = time.monotonic() + self.options.patience
        pause = 0.1
        while True:
            try:
                return act()
            except (*TRIED_AGAIN, PassingError) as error:
                if time.monotonic() + pause > deadline:
                    raise UnavailableError(
                        f"HDFS at {self.url} gave up on {what.strip()} after {self.options.patience:g} s: {error}"
                    ) from None
                log.warning("HDFS: %s; trying again in %.1f s", error, pause)
                time.sleep(pause)
                pause = min(2 * pause, 5.0)

    def exists(self, path: str, **_: object) -> bool:
        """Whether it exists; an error is an error, not a no."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def mv(self, path1: str, path2: str, **_: object) -> None:
        """Rename; the destination must not exist.

        Raises:
            ConflictError: it does. FileNotFoundError: nothing is there to rename. UnavailableError: the server refused.
        """
        sent = False

        def rename() -> None:
            nonlocal sent
            repeated, sent = sent, True
            try:
                answer = self._once("RENAME", "put", path1, destination=path2, renameoptions="NONE")
            except FileNotFoundError:
                if repeated and self.exists(path2):
                    log.warning("HDFS: the reply to the rename of %s was lost, but it has happened", path1)
                    return
                raise
            except FileExistsError as error:
                raise ConflictError(f"{path2} exists already, so {path1} was not renamed: {error}") from None
            # Gateways that know no options answer with the boolean of the old operation.
            body = answer.json() if answer.content else {}
            if body.get("boolean") is False:
                raise UnavailableError(f"HDFS at {self.url} refused to rename {path1} to {path2}")

        self._patiently(rename, f"RENAME {path1}")

    def mkdir(self, path: str, **_: object) -> None:
        """Make a directory and its parents."""
        if self._call("MKDIRS", "put", path).json().get("boolean") is not True:
            raise UnavailableError(f"HDFS at {self.url} refused to make the directory {path}")

    def put_file(self, lpath: str, rpath: str, **_: object) -> None:
        """Write a local file, replacing what is there."""

        def put() -> None:
            location = self._once("CREATE", "put", rpath, redirect=False, overwrite="true").headers["Location"]
            with Path(lpath).open("rb") as file:
                # An empty file object would be sent in chunks of which there are none.
                data = file if Path(lpath).stat().st_size else b""
                answer = self.session.put(self._apply_proxy(location), data=data, headers=BINARY, timeout=self._timeouts)
            self._check(answer, "CREATE", rpath)

        self._patiently(put, f"CREATE {rpath}")

    def rm(self, path: str, recursive: bool = False, **_: object) -> None:
        """Delete; nothing if it is not there."""
        with suppress(FileNotFoundError):
            self._call("DELETE", "delete", path, recursive=str(recursive).lower())

    def discard(self, path: str) -> None:
        """Try once to delete a directory; a leftover is swept later."""
        with suppress(UnavailableError, FileNotFoundError, InvalidInputError, *TRIED_AGAIN):
            self._once("DELETE", "delete", path, recursive="true")

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **_: object) -> "_Reader":
        if mode != "rb":
            raise ValueError(f"mode {mode!r} of {path}: files are only read in parts; write them by put_file")
        return _Reader(self, path, mode=mode, block_size=block_size or READ_BLOCK, tempdir=self.tempdir, autocommit=True)


class _Reader(WebHDFile):  # type: ignore[misc]
    """A file whose parts are fetched one by one, each tried again if need be."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        start, end = max(start, 0), min(end, self.size)
        if start >= end:
            return b""

        def fetch() -> bytes:
            content = self.fs._once("OPEN", "get", self.path, offset=start, length=end - start).content
            if len(content) != end - start:
                raise PassingError(f"OPEN {self.path}: {len(content)} of {end - start} bytes came from offset {start}")
            return bytes(content)

        return bytes(self.fs._patiently(fetch, f"OPEN {self.path}"))
