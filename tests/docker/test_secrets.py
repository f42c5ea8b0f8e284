"""What docker/secrets.sh makes at the first start, and what it refuses of a person's own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "secrets.sh"


def run(checkout: Path) -> tuple[int, str]:
    """Exit status of the script in a checkout of its own, and what it tells."""
    (checkout / "docker").mkdir(exist_ok=True)
    shutil.copy(SCRIPT, checkout / "docker")
    environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": f"unix://{checkout}"}
    words = [str(checkout / "docker" / "secrets.sh")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_secrets_are_made_once(tmp_path: Path) -> None:
    assert run(tmp_path) == (0, "")
    made = (tmp_path / ".env").read_text()
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert run(tmp_path) == (0, "")
    assert sorted((tmp_path / ".env").read_text().splitlines()) == sorted(made.splitlines())


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "VALKEY_PASSWORD"])
@pytest.mark.parametrize("password", ["p/w", "a@b", "a%41", "a:b", "a$b", ""])
def test_a_password_that_its_url_would_read_otherwise_is_refused(tmp_path: Path, name: str, password: str) -> None:
    (tmp_path / ".env").write_text(f"{name}={password}\n")
    status, told = run(tmp_path)
    assert status == 1
    assert f"{name} in .env" in told
    assert f"={password}" not in told or not password


@pytest.mark.parametrize(
    "own",
    [
        ["VALKEY_PASSWORD=My-own_word.1~"],
        [
            "POSTGRES_PASSWORD=p/w",
            "AIRFLOW_DATABASE_URL=postgresql+psycopg2://airflow:p%2Fw@postgres:5432/airflow",
            "AIRFLOW_RESULT_URL=db+postgresql://airflow:p%2Fw@postgres:5432/airflow",
        ],
    ],
)
def test_ones_own_are_kept(tmp_path: Path, own: list[str]) -> None:
    (tmp_path / ".env").write_text("\n".join(own) + "\n")
    assert run(tmp_path) == (0, "")
    assert set(own) <= set((tmp_path / ".env").read_text().splitlines())
