"""Commands about worlds: what they print, and one line for what cannot be."""

from pathlib import Path

import pytest

from tests.cli.test_cli import assert_one_line, recsys

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> str:
    made = recsys("world", "generate", "--dir", str(tmp_path / "world"), "--tracks", "300", "--users", "20")
    assert made.stdout == f"{tmp_path / 'world'}: 300 tracks, 20 users\n"
    return str(tmp_path / "world")


def test_a_world_grows_and_says_so(world: str) -> None:
    words = ("world", "grow", world, "--users", "5", "--tracks", "1", "--retire", "2")
    would = recsys(*words, "--dry-run")
    assert would.stdout == f"{world} would have 25 users (5 new) and 301 tracks (1 new, 2 retired by this)\n"
    assert recsys("world", "check", "--world", world).stdout == f"{world}: in order\n"
    done = recsys(*words)
    assert done.stdout == would.stdout.replace("would have", "has")
    assert (
        recsys("world", "check", "--world", world).stdout
        == f"{world}: in order; it has grown (1 step) to 25 users and 301 tracks\n"
    )
    assert recsys("world", "grow", "--users", "1", RECSYS_WORLD=world).returncode == 0
    again = recsys("world", "generate", "--dir", world, "--tracks", "300", "--users", "20")
    assert (again.returncode, again.stdout.splitlines()[1]) == (
        0,
        "It is there, and has grown (2 steps) to 26 users and 301 tracks; --force would overwrite that.",
    )
    assert_one_line(recsys("world", "generate", "--dir", world, "--tracks", "301", "--users", "20"), "already holds other files")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--retire", "301"), "301 tracks are to be retired, but 300 are available in"),
        ((), "a growth by nothing; give a number of users, of tracks, or of tracks to retire"),
        (("--users", "-1"), "users of a growth is -1; it must be from 0 to"),
    ],
)
def test_bad_growth_is_one_line(world: str, words: tuple[str, ...], message: str) -> None:
    assert_one_line(recsys("world", "grow", world, *words), message)
    assert recsys("world", "check", "--world", world).stdout == f"{world}: in order\n"
