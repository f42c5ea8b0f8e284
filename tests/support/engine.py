"""A Docker engine of the tests' own, which may be killed and started again, and the simulator's image in it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recsys.platform.components import ROOT
from tests.support.airflow import wait_until

IMAGE = "nightshift-simulator-test"
#: Of the engine that has one.
BRIDGE, BRIDGE_ADDRESS = "nightshift-test", "172.30.77.1/24"


@dataclass
class Engine:
    """A Docker engine of the tests' own, which may be killed and started again.

    Args:
        directory: of its data and its socket.
        has_bridge: whether containers get networks of their own. Without, they use the host's.

    Two engines stand side by side only if one has no bridge, and the other one not the usual: an engine without a bridge removes
    ``docker0`` when it starts.
    """

    directory: Path
    has_bridge: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.directory / 'docker.sock'}"

    def start(self) -> "Engine":
        d = self.directory
        words = ["dockerd", "--data-root", str(d / "data"), "--exec-root", str(d / "exec"), "--pidfile", str(d / "pid")]
        if self.has_bridge:
            self._make_bridge()
            words += ["--bridge", BRIDGE]
        else:
            words += ["--bridge", "none", "--iptables=false"]
        with (d / "log").open("ab") as log:
            self.process = subprocess.Popen([*words, "--host", self.host], stdout=log, stderr=log)
        wait_until(lambda: self.docker("info", check=False), 60, f"dockerd; {d / 'log'} tells more")
        return self

    def docker(self, *words: str, check: bool = True) -> str:
        """Output of a ``docker`` command."""
        environment = os.environ | {"DOCKER_HOST": self.host}
        answer = subprocess.run(["docker", *words], env=environment, capture_output=True, text=True, check=False)
        assert not check or answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout.strip() if answer.returncode == 0 else ""

    def kill(self) -> None:
        """As a crash would: no container is ended in an orderly way."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        if self.has_bridge:
            subprocess.run(["ip", "link", "delete", BRIDGE], check=False)

    def _make_bridge(self) -> None:
        # One that a killed test has left is as good.
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], capture_output=True, check=False)
        subprocess.run(["ip", "address", "replace", BRIDGE_ADDRESS, "dev", BRIDGE], check=True)
        subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)


@contextmanager
def docker_engine() -> Iterator[Engine]:
    """An engine that lasts as long as the block, with the simulator's image in it."""
    # The path of a socket has 107 characters at most.
    engine = Engine(Path(tempfile.mkdtemp(prefix="recsys-docker-")))
    try:
        engine.start()
        environment = os.environ | {"DOCKER_HOST": engine.host}
        base = os.environ.get("NIGHTSHIFT_TEST_BASE_IMAGE", "nightshift-base")
        subprocess.run([str(ROOT / "docker" / "base" / "build.sh"), base], env=environment, check=True)
        words = ["make", "simulator-image", f"BASE_IMAGE={base}", f"IMAGE={IMAGE}", "BUILD_ARGS=--network host"]
        built = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(engine.directory, ignore_errors=True)
