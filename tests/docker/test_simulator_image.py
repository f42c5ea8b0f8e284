"""The image of service and simulator holds few libraries: nothing else may be needed to start either."""

import subprocess
import sys
from pathlib import Path

#: Imports every module of both, with only what the image's lock names, the standard library and this package to be found.
PROGRAM = """
import importlib, pkgutil, re, sys
from importlib.metadata import packages_distributions
from pathlib import Path

plain = lambda name: re.sub("[-_.]+", "-", name).lower()
locked = {plain(name) for name in re.findall(r"^([A-Za-z0-9_.-]+)==", Path(sys.argv[1]).read_text(), re.M)}
others = {module for module, found in packages_distributions().items() if not locked & set(map(plain, found))} - {"recsys"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, Absent())
import recsys.cli, recsys.service, recsys.simulate
for package in (recsys.service, recsys.simulate):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
assert "psutil" in others
"""


def test_service_and_simulator_import_only_what_the_image_holds() -> None:
    lock = Path("docker/simulator/requirements.lock")
    found = subprocess.run([sys.executable, "-c", PROGRAM, str(lock)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert {"recsys.service.server", "recsys.service.worker", "recsys.simulate.__main__"} <= set(found.stdout.split())
