"""Whatever stands in a file or an argument, a parser takes it or refuses it in our words; it never falls over."""

import contextlib
import json
import random
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys import catalog
from recsys.abtest.rule import load_rule
from recsys.abtest.sessions import read_log
from recsys.exceptions import CorruptDataError, InvalidInputError, RecsysError
from recsys.experiments import Arm, Experiment, RunSpec, load_live_experiment
from recsys.logs.record import preview_base, reason
from recsys.models.base import create
from recsys.night import tune
from recsys.night.log_date import resolve
from recsys.platform.processes import read_state
from recsys.schemas import ShardResult
from recsys.service.world import Follower
from recsys.settings import HdfsOptions, Settings, load_hdfs_options, load_settings
from recsys.simulate.client import BatchCodec, Headers, SingleCodec
from recsys.simulate.config import read_env
from recsys.simulate.connection import Endpoint
from recsys.simulate.growth_record import WorldRecord
from recsys.simulate.listeners import load_embeddings, load_listeners
from recsys.simulate.world import WorldSize
from recsys.storage.layout import parse_date
from recsys.storage.manifest import Manifest
from recsys.storage.store import Storage
from recsys.versions import keyspace
from recsys.versions.content import read_content
from recsys.versions.pointer import version_date
from recsys.versions.session_lists import SessionLists
from tests.support.night import catalogue_of

pytestmark = pytest.mark.slow

QUIET = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

#: JSON-like values of any shape, with the words that parsers look for among the keys.
KEYS = (
    "user track tracks artist title interests experiment arms name recommender weight salt margin files counts bytes sha256 "
    "guardrails primary track_catalog_config track_meta_path user_catalog_config default_session_budget "
    "remote_recommender_config host port layers dropout batch precision answers base version exploration seed run pid "
    "started recommendations"
)
WORDS = st.sampled_from(KEYS.split())
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


ENVIRONMENT = b"""track_catalog_config: {track_meta_path: tracks.json, track_embeddings_path: tracks.npy}
user_catalog_config: {user_catalog_path: users.json, default_session_budget: 5, default_consume_bias: 5.0}
remote_recommender_config: {host: 127.0.0.1, port: 5000}
"""
DAE = b'{"layers": [300, 50], "dropout": 0.4, "learning_rate": 0.002, "batch": 64, "epochs": 3, "precision": "float32"}'
GROWTH = b"""{"parameters": {"tracks": 9, "seed": 1}, "checksum": "0f", "growth": [{"users": 1, "tracks": 2,
"retired": [3], "seed": 5, "log_date": "2026-01-05", "users_before": 7, "tracks_before": 9, "checksum": ""}]}"""


def listeners(users: Path) -> object:
    """The listeners of a world that has these users."""
    (users.parent / "tracks.json").write_bytes(PARSERS["tracks"][1])
    np.save(users.parent / "tracks.npy", np.eye(2, dtype=np.float32))
    return load_listeners(users.parent, first_tracks=False)


def neighbours(path: Path) -> object:
    """What the service reads of a world that has these neighbours."""
    (path.parent / "tracks.json").write_bytes(PARSERS["tracks"][1])
    return Follower(path.parent)


PARSERS: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "tracks": (catalog.read_tracks, b'{"artist": "a", "title": "t", "track": 0}\n{"artist": "b", "title": "u", "track": 1}\n'),
    "users": (lambda path: catalog.load_users(path.parent), b'{"user": 0, "interests": [0, 1]}\n{"user": 7, "interests": [1]}\n'),
    "experiment": (
        load_live_experiment,
        b"experiment: X\nsalt: s\narms: [{name: A, recommender: dae}, {name: B, recommender: top100}]",
    ),
    "rule": (load_rule, Path("config/promotion.yml").read_bytes()),
    "top": (lambda path: catalog.load_top_tracks(path.parent), b"[3, 1, 2]"),
    "neighbours": (neighbours, b'{"track": 0, "recommendations": [3, 1]}\n{"track": 7, "recommendations": []}\n'),
    "environment": (read_env, ENVIRONMENT),
    "listeners": (listeners, b'{"user": 0, "interests": [0, 1], "consume_bias": 4.5}\n{"user": 7, "interests": [1]}\n'),
    "dae": (lambda path: create("dae", **tune.adopted(path)), DAE),
    "growth": (lambda path: WorldRecord.read(path.parent), GROWTH),
    "state": (lambda path: read_state(path.parent), b'[{"name": "service", "pid": 2147483000, "started": 1.5}]'),
}
FILES = {
    "tracks": "tracks.json",
    "users": "users.json",
    "experiment": "x.yml",
    "rule": "x.yml",
    "top": "top_tracks.json",
    "neighbours": "tracks_recs.json",
    "environment": "env.yml",
    "listeners": "users.json",
    "dae": "best.json",
    "growth": "world.json",
    "state": "platform.json",
}


@pytest.mark.parametrize("name", PARSERS)
@QUIET
@given(seed=st.integers(0, 2**32))
def test_spoiled_files(tmp_path: Path, name: str, seed: int) -> None:
    parse, sample = PARSERS[name]
    path = tmp_path / FILES[name]
    path.write_bytes(spoil(sample, seed))
    taken_or_refused(parse, path)


@pytest.mark.parametrize("name", PARSERS)
@QUIET
@given(value=VALUES)
def test_files_of_another_shape(tmp_path: Path, name: str, value: object) -> None:
    parse, _ = PARSERS[name]
    path = tmp_path / FILES[name]
    path.write_text(yaml.safe_dump(value) if path.suffix == ".yml" else json.dumps(value) + "\n")
    taken_or_refused(parse, path)


@settings(QUIET, max_examples=20)
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
            taken_or_refused(lambda _: read_content(recommendations, popular, neighbours, catalogue_of(200)), tmp_path)


@pytest.mark.parametrize("name", PARSERS)
def test_files_that_are_nested_too_deeply(tmp_path: Path, name: str) -> None:
    parse, _ = PARSERS[name]
    path = tmp_path / FILES[name]
    path.write_bytes(b"[" * 1_100)
    if name == "state":
        assert parse(path) == []
    else:
        with pytest.raises(RecsysError):
            parse(path)


@QUIET
@given(value=VALUES | st.text(max_size=12) | st.dates().map(str) | st.from_regex(r"\A\d{4}-W\d\d-\d\Z"))
def test_dates(value: object) -> None:
    try:
        assert parse_date(value).isoformat() == value  # type: ignore[arg-type]
    except InvalidInputError:
        with pytest.raises(InvalidInputError):
            resolve(value if value is not None else "", None, "manual", datetime.now(UTC))  # type: ignore[arg-type]


@QUIET
@given(text=st.text(max_size=30) | st.from_regex(r"\A[\w./-]{1,20}\.\d{1,5}\.[\w/]{1,4}\Z"))
def test_run_ids_and_versions(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        base = preview_base(text)
        assert text.startswith(f"{base}.")
        assert "/" not in text
        assert ".." not in text
    taken_or_refused(lambda _: version_date(text), Path())


LINE = b'{"message": "next", "timestamp": 1, "user": 2, "track": 3, "time": 0.5, "run": "r.0.a", "session": 0, "step": 0}'


@QUIET
@given(value=VALUES, seed=st.integers(0, 2**32))
def test_log_lines(value: object, seed: int) -> None:
    for line in (spoil(LINE, seed), json.dumps(value).encode(), json.dumps({**json.loads(LINE), "time": value}).encode()):
        assert reason(line) is None or reason(line)


@settings(QUIET, max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_logs_of_an_experiment(tmp_path: Path, seed: int) -> None:
    fields = {"timestamp": 5, "user": 2, "track": 3, "time": 0.5, "latency": 0.1, "experiments": {"X": "A"}}
    fields |= {"run": "r.0.a", "session": 0}
    lines = [{"message": message, **fields, "step": step} for step, message in enumerate(("next", "last"))]
    path = tmp_path / "a.jsonl"
    path.write_bytes(spoil(b"\n".join(json.dumps(line).encode() for line in lines) + b"\n", seed))
    taken_or_refused(lambda path: read_log(path, "X"), path)


@QUIET
@given(seed=st.integers(0, 2**32), dtype=st.sampled_from(["f4", "f8", "i4", "c8", "U2"]))
def test_embeddings(tmp_path: Path, seed: int, dtype: str) -> None:
    path = tmp_path / "tracks.npy"
    np.save(path, np.ones((3, 4)).astype(dtype))
    path.write_bytes(spoil(path.read_bytes(), seed))
    try:
        space = load_embeddings(path, 3)
    except RecsysError:
        return
    assert space.dtype == np.float32
    assert np.isfinite(space).all()


def test_embeddings_beyond_32_bits(tmp_path: Path) -> None:
    np.save(tmp_path / "tracks.npy", np.full((3, 4), 1e300))
    with pytest.raises(RecsysError, match="row 0"):
        load_embeddings(tmp_path / "tracks.npy", 3)


@QUIET
@given(seed=st.integers(0, 2**32))
def test_session_lists(seed: int) -> None:
    taken_or_refused(lambda _: SessionLists.from_bytes(spoil(SessionLists.empty().to_bytes(), seed)), Path())


SPEC = RunSpec("b", "v", 0.1, 3, Experiment("X", (Arm("A", "dae"), Arm("B", "top100", "w")), "s"), 7)
RESULT = ShardResult("b.0.t", 0, 1, 2, 1, 0.5, 0.1, 3.0, 0.2, 1.5)


@QUIET
@given(value=VALUES, name=st.sampled_from(sorted(asdict(SPEC))), seed=st.integers(0, 2**32))
def test_run_specifications(value: object, name: str, seed: int) -> None:
    assert RunSpec.parse(SPEC.to_json(), "it") == SPEC
    written = [
        json.dumps(value).encode(),
        json.dumps({**asdict(SPEC), name: value}).encode(),
        spoil(SPEC.to_json().encode(), seed),
    ]
    for text in written:
        try:
            spec = RunSpec.parse(text, "it")
        except CorruptDataError:
            continue
        assert spec.experiment is None or spec.experiment.arm_of(5)


@QUIET
@given(value=VALUES, name=st.sampled_from(sorted(asdict(RESULT))), seed=st.integers(0, 2**32))
def test_results_of_shards(value: object, name: str, seed: int) -> None:
    whole = json.dumps(asdict(RESULT))
    assert ShardResult.from_json(whole) == RESULT
    for text in (spoil(whole.encode(), seed), json.dumps(value), json.dumps({**asdict(RESULT), name: value})):
        taken_or_refused(lambda _, text=text: ShardResult.from_json(text), Path())


@QUIET
@given(value=VALUES, seed=st.integers(0, 2**32))
def test_answers_of_a_service(value: object, seed: int) -> None:
    headers = Headers(Endpoint("h", 1, ""), None, None)
    one, two = b'{"user": 1, "track": 5}', b'{"answers": [{"user": 1, "track": 5}, {"user": 2}]}'
    for body in (spoil(one, seed), json.dumps(value).encode(), json.dumps({"user": 1, "track": value}).encode()):
        taken_or_refused(lambda _, body=body: SingleCodec(headers, 9).decode(body, [1], [False]), Path())
    for body in (spoil(two, seed), json.dumps(value).encode(), json.dumps({"answers": value}).encode()):
        taken_or_refused(lambda _, body=body: BatchCodec(headers, 9).decode(body, [1, 2], [False, True]), Path())


KINDS = {Settings: load_settings, HdfsOptions: load_hdfs_options}
VARIABLES = [
    (f"{kind.model_config['env_prefix']}{name}".upper(), load) for kind, load in KINDS.items() for name in kind.model_fields
]
TYPED = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)


@QUIET
@given(variable=st.sampled_from(VARIABLES), text=TYPED | st.integers(-(2**70), 2**70).map(str) | st.floats().map(str))
def test_settings(variable: tuple[str, Callable[[], object]], text: str) -> None:
    name, load = variable
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, text)
        try:
            found, told = load(), name
        except InvalidInputError as error:
            found, told = None, str(error)
    assert name in told
    if isinstance(found, HdfsOptions):
        taken_or_refused(lambda _: found.host_map, Path())


@QUIET
@given(text=TYPED, scheme=st.sampled_from(["", "file://", "webhdfs://", "http://", "redis://", "unix://", "redis://h:"]))
def test_urls(text: str, scheme: str) -> None:
    url = scheme + text
    taken_or_refused(lambda _: Endpoint.parse(url), Path())
    taken_or_refused(lambda _: Storage(url), Path())
    keyspace.address(url)


@pytest.mark.parametrize("url", ["", "redis", "http://h", "redis://h:port", "redis://:p/w@h", "redis://[h", "redis://h?db=x"])
def test_a_url_of_redis_that_is_none(url: str) -> None:
    with pytest.raises(InvalidInputError, match="RECSYS_REDIS_URL") as caught:
        keyspace.connect(load_settings(redis_url=url))
    assert "p/w" not in str(caught.value)


@QUIET
@given(numbers=st.tuples(*[st.integers(-(2**70), 2**70) | st.integers(0, 500)] * 5))
def test_sizes_of_a_world(numbers: tuple[int, ...]) -> None:
    taken_or_refused(lambda _: WorldSize(*numbers).check(), Path())


@QUIET
@given(value=VALUES, seed=st.integers(0, 2**32))
def test_manifests(tmp_path: Path, value: object, seed: int) -> None:
    store = Storage(f"file://{tmp_path}/store")
    with store.stage("logs/x", {"events": 1}) as staging:
        (staging / "a.jsonl").write_text("{}")
    path = Path(store.path("logs/x")) / Manifest.FILE
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
    path = Path(store.path("logs/x")) / Manifest.FILE
    path.write_text(path.read_text().replace('"a"', json.dumps(name)))
    with pytest.raises(CorruptDataError, match="must be plain"):
        store.manifest("logs/x")
