"""How simulation shards run: asked once, by the start script, and handed to Airflow as ``RECSYS_SIMULATION``."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import recsys
from recsys.exceptions import InvalidInputError
from recsys.settings import Settings

ROOT = Path(recsys.__file__).resolve().parents[1]

#: Label of every container that a night starts.
LABEL = "org.nightshift.simulation"


class Choice(NamedTuple):
    """``process`` or ``docker``, and why, as a sentence."""

    simulation: str
    why: str


def choose(settings: Settings) -> Choice:
    """Decide between local processes and containers.

    Raises:
        InvalidInputError: ``docker`` was demanded, but no engine with the image answers.
    """
    if settings.simulation == "process":
        return Choice("process", "Simulation runs in local processes, as RECSYS_SIMULATION says.")
    image = settings.simulator_image
    if not _docker("info", "--format", "{{.ServerVersion}}"):
        missing = "no Docker engine answers"
    elif not _docker("image", "inspect", "--format", "{{.Id}}", image) and not _build(image):
        missing = f"the Docker engine has no image {image} and could not build it ('make simulator-image' shows why)"
    else:
        return Choice("docker", f"Simulation runs in containers of {image}.")
    if settings.simulation == "docker":
        raise InvalidInputError(f"RECSYS_SIMULATION is docker, but {missing}; mend that or set it to process")
    return Choice("process", f"Simulation runs in local processes: {missing}.")


def end_containers(var: str) -> None:
    """Kill what containers a platform on ``var`` has left."""
    found = _docker("ps", "--quiet", "--filter", f"label={LABEL}={var}")
    if found:
        _docker("kill", *found.split())


def _build(image: str) -> bool:
    """Build the simulator's image from this checkout."""
    dockerfile = ROOT / "docker" / "simulator" / "Dockerfile"
    return bool(_docker("build", "--quiet", "--file", str(dockerfile), "--tag", image, str(ROOT), timeout=900))


def _docker(*words: str, timeout: float = 20) -> str:
    """Output of a Docker command; empty if it fails or there is no client."""
    if shutil.which("docker") is None:
        return ""
    try:
        answer = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
