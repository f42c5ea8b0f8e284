"""Whatever stands in a file or an argument, a parser takes it or refuses it in our words; it never falls over."""

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys import catalog, publish
from recsys.abtest.rule import load_rule
from recsys.exceptions import CorruptDataError, RecsysError
from recsys.experiments import load_live_experiment
from recsys.manifest import MANIFEST
from recsys.schemas import parse_date
from recsys.storage import Storage

QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

#: JSON-like values of any shape, with the words that parsers look for among the keys.
WORDS = st.sampled_from(["user", "track", "tracks", "artist", "title", "interests", "experiment", "arms", "name", "recommender",
                         "weight", "salt", "margin", "files", "counts", "bytes", "sha256", "guardrails", "primary"])  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)


def taken_or_refused(parse: Callable[[Path], object], path: Path) -> None:
    with contextlib.suppress(RecsysError):
        parse(path)


def spoil(text: bytes, seed: int) -> bytes:
    """The text with a few bytes changed, cut out or put in."""
    chance = random.Random(seed)
    spoiled = bytearray(text)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(spoiled) + 1)
        spoiled[at : at + chance.randint(0, 3)] = bytes(chance.choices(b'{}[]",:-0.9eNa\x00\xff\n', k=chance.randint(0, 3)))
    return bytes(spoiled)


PARSERS: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "tracks": (catalog.load_tracks, b'{"artist": "a", "title": "t", "track": 0}\n{"artist": "b", "title": "u", "track": 1}\n'),
    "users": (catalog.load_users, b'{"user": 0, "interests": [0, 1]}\n{"user": 7, "interests": [1]}\n'),
    "experiment": (
        load_live_experiment,
        b"experiment: X\nsalt: s\narms: [{name: A, recommender: dae}, {name: B, recommender: top100}]",
    ),
    "rule": (load_rule, Path("config/promotion.yml").read_bytes()),
}
FILES = {"tracks": "tracks.json", "users": "users.json", "experiment": "x.yml", "rule": "x.yml"}


@pytest.mark.parametrize("name", PARSERS)
@QUIET
@given(seed=st.integers(0, 2**32))
def test_spoiled_files(tmp_path: Path, name: str, seed: int) -> None:
    parse, sample = PARSERS[name]
    path = tmp_path / FILES[name]
    path.write_bytes(spoil(sample, seed))
    taken_or_refused(parse if path.suffix == ".yml" else lambda p: parse(p.parent), path)


@pytest.mark.parametrize("name", PARSERS)
@QUIET
@given(value=VALUES)
def test_files_of_another_shape(tmp_path: Path, name: str, value: object) -> None:
    parse, _ = PARSERS[name]
    path = tmp_path / FILES[name]
    path.write_text(yaml.safe_dump(value) if path.suffix == ".yml" else json.dumps(value) + "\n")
    taken_or_refused(parse if path.suffix == ".yml" else lambda p: parse(p.parent), path)


@QUIET
@given(value=VALUES, top=VALUES, seed=st.integers(0, 2**32))
def test_published_lists(tmp_path: Path, value: object, top: object, seed: int) -> None:
    recommendations, popular, neighbours = (tmp_path / name for name in ("recommendations.json", "top.json", "n.npy"))
    np.save(neighbours, np.zeros((3, 20), np.uint32))
    neighbours.write_bytes(spoil(neighbours.read_bytes(), seed))
    for record in (
        value,
        {"user": value, "tracks": list(range(50))},
        {"user": 1, "tracks": value},
        {"user": 1, "tracks": list(range(50))},
    ):
        recommendations.write_text(json.dumps(record) + "\n")
        for best in (top, list(range(100))):
            popular.write_text(json.dumps(best))
            taken_or_refused(lambda _: publish.read_content(recommendations, popular, neighbours, 200), tmp_path)


@QUIET
@given(text=st.text(max_size=12) | st.dates().map(str))
def test_dates(text: str) -> None:
    taken_or_refused(lambda _: parse_date(text), Path())


@QUIET
@given(value=VALUES, seed=st.integers(0, 2**32))
def test_manifests(tmp_path: Path, value: object, seed: int) -> None:
    store = Storage(f"file://{tmp_path}/store")
    with store.stage("logs/x", {"events": 1}) as staging:
        (staging / "a.jsonl").write_text("{}")
    path = Path(store.path("logs/x")) / MANIFEST
    whole = path.read_bytes()
    for text in (spoil(whole, seed), json.dumps(value).encode(), json.dumps({**json.loads(whole), "files": value}).encode()):
        path.write_bytes(text)
        taken_or_refused(lambda _: store.local("logs/x"), path)
    path.write_bytes(whole)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/b", "..", ""])
def test_a_manifest_names_plain_files_alone(tmp_path: Path, name: str) -> None:
    store = Storage(f"file://{tmp_path}/store")
    with store.stage("logs/x", {}) as staging:
        (staging / "a").write_text("{}")
    path = Path(store.path("logs/x")) / MANIFEST
    path.write_text(path.read_text().replace('"a"', json.dumps(name)))
    with pytest.raises(CorruptDataError, match="must be plain"):
        store.manifest("logs/x")
