"""A real HDFS of one's own: one NameNode and one DataNode, from the jars that Maven brings.

In goes a directory; out comes an :class:`Hdfs` whose two processes can be started, killed and restarted one by one. The jars are
fetched once, into ``RECSYS_HADOOP`` or else ``~/.cache/nightshift/hadoop-<version>``.
"""

import fcntl
import json
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from recsys.exceptions import UnavailableError
from recsys.platform.ports import HOST, free_ports
from recsys.settings import load_settings

VERSION = "3.5.0"
HEAP = "-Xmx256m"
START_SECONDS = 300.0
GRACE = 10.0
PARTS = {
    "namenode": "org.apache.hadoop.hdfs.server.namenode.NameNode",
    "datanode": "org.apache.hadoop.hdfs.server.datanode.DataNode",
}
_FILES = Path(__file__).parent / "hadoop"
_PACKAGES = "'apt-get install openjdk-17-jre-headless maven' installs them on Debian"


def jars() -> Path:
    """Directory with Hadoop's jars, fetched by Maven if they are not there yet.

    Raises:
        UnavailableError: Java or Maven is missing, or Maven fails; the message says what to install.
    """
    default = Path.home() / ".cache" / "nightshift" / f"hadoop-{VERSION}"
    final = (load_settings().hadoop or default).resolve()
    if shutil.which("java") is None:
        raise UnavailableError(f"HDFS needs Java 17 or newer, and Maven once; {_PACKAGES}")
    if final.is_dir():
        return final
    if shutil.which("mvn") is None:
        raise UnavailableError(f"{final} does not exist, and Maven, which fetches Hadoop into it, is missing; {_PACKAGES}")
    final.parent.mkdir(parents=True, exist_ok=True)
    with (final.parent / f".{final.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir():
            _fetch(final)
    return final


def _fetch(final: Path) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        shutil.copyfile(_FILES / "pom.xml", partial / "pom.xml")
        words = ["mvn", "--quiet", "--batch-mode", "--file", str(partial / "pom.xml"), "dependency:copy-dependencies"]
        words += ["-DincludeScope=runtime", f"-DoutputDirectory={partial / 'lib'}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UnavailableError(f"Maven could not fetch Hadoop {VERSION}: {(done.stdout + done.stderr).strip()[-1000:]}")
        (partial / "lib").rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass
class Hdfs:
    """One NameNode and one DataNode.

    Args:
        directory: their configuration, data and output stand here.
        settings: further Hadoop properties.
    """

    directory: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    ports: list[int] = field(default_factory=lambda: free_ports(5))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """``webhdfs://host:port``, without a path."""
        return f"webhdfs://{HOST}:{self.ports[1]}"

    def start(self) -> "Hdfs":
        """Format the NameNode if it is new, start both and wait until files can be written.

        Raises:
            UnavailableError: Java is missing, or a process ends or is not ready in time; the message ends with what it printed.
        """
        self._configure()
        if not (self.directory / "name" / "current").is_dir():
            words = self.words("namenode", "-format", "-nonInteractive")
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise UnavailableError(f"the NameNode cannot be formatted: {done.stderr.strip()[-1000:]}")
        for part in PARTS:
            self.launch(part)
        self.wait()
        return self

    def words(self, part: str, *arguments: str) -> list[str]:
        """Command of one part, ``namenode`` or ``datanode``."""
        where = f"{self.directory / 'conf'}:{jars()}/*"
        return ["java", HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", where, PARTS[part], *arguments]

    def launch(self, part: str) -> None:
        """Start one part without waiting for it."""
        with (self.directory / f"{part}.log").open("ab") as output:
            self.processes[part] = subprocess.Popen(
                self.words(part), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def wait(self) -> None:
        """Wait until the DataNode has registered and safe mode is off.

        Raises:
            UnavailableError: a process has ended, or they are not ready in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            for part, process in self.processes.items():
                if process.poll() is not None:
                    raise UnavailableError(f"the {part} ended with status {process.returncode}: {self._tail(part)}")
            if time.monotonic() > deadline:
                raise UnavailableError(f"HDFS was not ready within {START_SECONDS:.0f} s: {self._tail('datanode')}")
            time.sleep(0.1)

    def is_ready(self) -> bool:
        """Whether files can be written now."""
        state = self._bean("NameNodeInfo"), self._bean("FSNamesystemState")
        return all(state) and state[0].get("Safemode") == "" and state[1].get("NumLiveDataNodes", 0) > 0

    def kill(self, part: str | None = None, how: int = signal.SIGKILL) -> None:
        """End one part, or both; by default as a power cut would."""
        for name in [part] if part else list(self.processes):
            process = self.processes.pop(name, None)
            if process is None:
                continue
            process.send_signal(how)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop(self) -> None:
        """End both in an orderly way."""
        self.kill("datanode", signal.SIGTERM)
        self.kill("namenode", signal.SIGTERM)

    def _configure(self) -> None:
        conf = self.directory / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_FILES / "log4j.properties", conf / "log4j.properties")
        rpc, http, data, data_http, data_ipc = self.ports
        site = {
            "fs.defaultFS": f"hdfs://{HOST}:{rpc}",
            "dfs.replication": "1",
            "dfs.namenode.name.dir": f"file://{self.directory.resolve()}/name",
            "dfs.datanode.data.dir": f"file://{self.directory.resolve()}/data",
            "dfs.namenode.http-address": f"{HOST}:{http}",
            "dfs.datanode.address": f"{HOST}:{data}",
            "dfs.datanode.http.address": f"{HOST}:{data_http}",
            "dfs.datanode.ipc.address": f"{HOST}:{data_ipc}",
            "dfs.datanode.hostname": HOST,
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.heartbeat.interval": "1",
            "dfs.namenode.heartbeat.recheck-interval": "1000",
            # How long a writer waits before it asks again whether its last block has arrived.
            "dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "20",
            # Safe mode ends as soon as every block is known, but not before there is a DataNode to write to.
            "dfs.namenode.safemode.extension": "0",
            "dfs.namenode.safemode.min.datanodes": "1",
            **self.settings,
        }
        rows = "".join(f"<property><name>{k}</name><value>{escape(v)}</value></property>\n" for k, v in site.items())
        text = f'<?xml version="1.0"?>\n<configuration>\n{rows}</configuration>\n'
        for name in ("core-site.xml", "hdfs-site.xml"):
            (conf / name).write_text(text)

    def _bean(self, name: str) -> dict[str, Any]:
        url = f"http://{HOST}:{self.ports[1]}/jmx?qry=Hadoop:service=NameNode,name={name}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                beans = json.load(answer)["beans"]
        except (OSError, ValueError):
            return {}
        return dict(beans[0]) if beans else {}

    def _tail(self, part: str) -> str:
        return (self.directory / f"{part}.log").read_text(errors="replace").strip()[-1000:]
