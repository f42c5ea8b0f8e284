"""An invented world in the original's file formats, and the check of any world's files.

In go sizes and a seed; out comes a directory with ``tracks.json``, ``tracks.npy``, ``users.json``, ``top_tracks.json``,
``env.yml`` and ``world.json`` (the parameters and a checksum of the rest). The statistics resemble the course project's music
data: most artists have one track and a few have eighty, a few tracks are much more popular than the rest, a listener's interests
are related, and the embeddings have the same spectrum, norms and neighbourhoods.
"""

import json
import logging
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys import catalog
from recsys.exceptions import InvalidInputError, WorldError
from recsys.schemas import TOP_LENGTH
from recsys.simulate.growth_record import ENV, FILES, RECORD, GrowthStep, WorldRecord, checksum_of, partial_of
from recsys.simulate.interests import INTERESTS, draw_interests
from recsys.simulate.listeners import EMBEDDINGS, first_track_cache, load_listeners
from recsys.simulate.names import artist_names, titles

log = logging.getLogger(__name__)

FORMAT = 1

#: Standard deviation of the logarithm of a track's popularity: of the artist's fame and of the track's own part.
FAME, OWN_FAME = 0.9, 1.0
#: Shares of an embedding's variance: common to a genre, a scene in it, an artist; the rest is the track's own.
GENRE, SCENE, ARTIST = 0.08, 0.32, 0.10
MEAN_NORM = 0.577

# Quantiles of the number of tracks an artist has, and of the principal variances, as measured.
_SIZE_QUANTILES = ((0.0, 0.57, 0.68, 0.75, 0.9, 0.95, 0.99, 1.0), (1.0, 1.0, 2.0, 3.0, 11.0, 21.0, 41.0, 80.0))
_VARIANCES = ((0, 1, 4, 10, 20, 40, 63), (0.251, 0.216, 0.1835, 0.134, 0.0435, 0.0295, 0.0241))

_ENV_TEXT = """\
track_catalog_config:
  track_meta_path: tracks.json
  track_embeddings_path: tracks.npy

user_catalog_config:
  user_catalog_path: users.json
  default_interest_neighbours: 10
  default_consume_bias: 5.0
  default_consume_sharpness: 1.0
  default_session_budget: 5
  default_artist_discount_gamma: 0.9

remote_recommender_config:
  host: 127.0.0.1
  port: 5000
"""


@dataclass(frozen=True)
class WorldSize:
    """What a generated world is made from."""

    tracks: int
    artists: int
    users: int
    dims: int
    seed: int
    format: int = FORMAT

    def check(self) -> None:
        """Raise InvalidInputError if a number is out of range."""
        ranges = {
            "tracks": (INTERESTS, 2**31 - 1),
            "artists": (1, self.tracks),
            "users": (1, 2**31 - 1),
            "dims": (2, 4096),
            "seed": (0, 2**64 - 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInputError(f"{name} of a world is {value}; it must be from {low} to {high}")


def generate(
    directory: Path,
    *,
    tracks: int = 50_000,
    artists: int = 11_000,
    users: int = 10_000,
    dims: int = 64,
    seed: int = 31337,
    force: bool = False,
) -> list[GrowthStep]:
    """Write a world; nothing is done if the same one (sizes, seed, checksum) already stands there, or what it has grown into.

    The directory appears by one rename. An existing one is replaced only by ``force``, and only if it holds nothing else than
    the files of a world.

    Returns:
        How the world that was found there has grown; nothing if the world is as it was asked for.

    Raises:
        InvalidInputError: a size is out of range. WorldError: another world or other files stand there.
    """
    size = WorldSize(tracks, artists, users, dims, seed)
    size.check()
    directory = directory.absolute()
    if _is_there(directory, size, force):
        log.info("%s already holds this world", directory)
        return WorldRecord.read(directory).growth
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _write(temporary, size)
        _put(temporary, directory, size)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    log.info("wrote %s: %d tracks of %d artists, %d users", directory, tracks, artists, users)
    return []


def validate(world: Path) -> WorldRecord:
    """Check every file of a world directory, also against each other.

    Returns:
        What is written down of the world's making and growth.

    Raises:
        WorldError: the first thing that is wrong, with file and value.
    """
    tracks = catalog.load_tracks(world)
    catalog.load_users(world)
    load_listeners(world, first_tracks=False)
    top = catalog.load_top_tracks(world)
    if top and max(top) >= tracks.size:
        raise WorldError(f"{world / catalog.TOP_TRACKS} names track {max(top)}, but there are {tracks.size} tracks")
    return WorldRecord.read(world)


def _is_there(directory: Path, size: WorldSize, force: bool) -> bool:
    """Whether this very world stands there already; anything else in its place is refused unless ``force``."""
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise WorldError(f"{directory} is not a directory; give another one")
    names = {path.name for path in directory.iterdir()}
    if not names:
        return False
    try:
        there = WorldRecord.read(directory)
    except WorldError:
        there = WorldRecord()
    if there.parameters == asdict(size):
        checksum = checksum_of(directory)
        if there.growth and not force and (there.pending or there.growth[-1].checksum == checksum):
            return True
        if there.checksum == checksum:
            return True
    if not force:
        found = there.parameters or "no parameters of a generated world"
        raise WorldError(f"{directory} already holds other files ({found}); give another directory, or force overwriting")
    known = (*FILES, RECORD)
    foreign = sorted(names - {*known, *(partial_of(Path(name)).name for name in known), first_track_cache(directory).parent.name})
    if foreign:
        raise WorldError(f"{directory} holds {foreign[0]!r}, which is no part of a generated world; move it away first")
    return False


def _put(temporary: Path, directory: Path, size: WorldSize) -> None:
    """Rename the finished world to its place; whatever comes between, one of the two stands there afterwards."""
    temporary.chmod(0o755)
    old = Path(tempfile.mkdtemp(prefix=f".{directory.name}-old-", dir=directory.parent))
    try:
        if directory.exists() and any(directory.iterdir()):
            directory.rename(old)
        _take_place(temporary, directory, size)
    finally:
        if not directory.exists() and any(old.iterdir()):
            old.rename(directory)
        shutil.rmtree(old, ignore_errors=True)


def _take_place(temporary: Path, directory: Path, size: WorldSize) -> None:
    try:
        temporary.rename(directory)
    except OSError:
        # Somebody else may have written the same world meanwhile.
        if not directory.exists() or not _is_there(directory, size, force=False):
            raise


def _write(directory: Path, size: WorldSize) -> None:
    # One stream a part, so that a change to one does not shift the others.
    layout, space, fame_rng, taste, words = (np.random.default_rng([size.seed, part]) for part in range(5))
    artist_of = _artists(size, layout)
    embeddings = _embeddings(size, artist_of, space)
    fame = _fame(artist_of, fame_rng)
    names, title_of = artist_names(size.artists, words), titles(size.tracks, words)
    with (directory / catalog.TRACKS).open("w", encoding="utf-8") as file:
        for track, artist in enumerate(artist_of.tolist()):
            file.write(json.dumps({"artist": names[artist], "title": title_of[track], "track": track}) + "\n")
    np.save(directory / EMBEDDINGS, embeddings)
    _write_users(directory / catalog.USERS, size, embeddings, fame, taste)
    # What is famous is known only roughly, as a chart would know it.
    heard = np.log(fame) + taste.normal(0, 0.5, size.tracks)
    top = np.argsort(-heard, kind="stable")[:TOP_LENGTH]
    (directory / catalog.TOP_TRACKS).write_text(json.dumps(top.tolist()))
    (directory / ENV).write_text(_ENV_TEXT)
    WorldRecord(parameters=asdict(size), checksum=checksum_of(directory)).write(directory)
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _artists(size: WorldSize, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Artist of each track, int64 [tracks]; every artist has at least one track."""
    at = (np.arange(size.artists) + rng.random(size.artists)) / size.artists
    counts = np.maximum(1, np.interp(at, *_SIZE_QUANTILES).round()).astype(np.int64)
    rest = size.tracks - int(counts.sum())
    if rest > 0:
        extra = rng.choice(size.artists, rest, p=counts / counts.sum())
        counts += np.bincount(extra, minlength=size.artists)
    elif rest < 0:
        # Everything above one track an artist may go; each such track is as likely as another.
        surplus = np.repeat(np.arange(size.artists), counts - 1)
        counts -= np.bincount(rng.permutation(surplus)[:-rest], minlength=size.artists)
    rng.shuffle(counts)
    return rng.permutation(np.repeat(np.arange(size.artists), counts))


def _embeddings(size: WorldSize, artist_of: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Genres, scenes in them, artists in those, tracks of these: nested normal deviations, float32 [tracks, dims]."""
    genres = max(2, round(size.artists / 500))
    scenes = max(4, round(size.artists / 20))
    scene_of_artist = rng.integers(0, scenes, size.artists)
    genre_of_scene = rng.integers(0, genres, scenes)
    d = size.dims
    levels = (
        (GENRE, genres, genre_of_scene[scene_of_artist[artist_of]]),
        (SCENE, scenes, scene_of_artist[artist_of]),
        (ARTIST, size.artists, artist_of),
        (1 - GENRE - SCENE - ARTIST, size.tracks, np.arange(size.tracks)),
    )
    points = np.zeros((size.tracks, d), np.float32)
    for share, groups, member in levels:
        points += np.sqrt(share) * rng.standard_normal((groups, d), np.float32)[member]
    variances = np.interp(np.linspace(0, 63, d), *_VARIANCES) * (64 / d)
    points *= np.sqrt(variances).astype(np.float32)
    rotation, _ = np.linalg.qr(rng.standard_normal((d, d)))
    direction = rng.standard_normal(d)
    return (points @ rotation.astype(np.float32) + MEAN_NORM * direction / np.linalg.norm(direction)).astype(np.float32)


def _fame(artist_of: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Popularity of each track, a probability [tracks]."""
    artist = rng.normal(0, FAME, int(artist_of.max()) + 1)
    weight: npt.NDArray[np.float64] = np.exp(artist[artist_of] + rng.normal(0, OWN_FAME, len(artist_of)))
    return weight / float(weight.sum())


def _write_users(
    path: Path,
    size: WorldSize,
    embeddings: npt.NDArray[np.float32],
    fame: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Draw and write the listeners: three different interests each, the latter two related to the first."""
    cumulative = np.cumsum(fame)
    cumulative /= cumulative[-1]
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, size.users, 2048):
            n = min(2048, size.users - start)
            interests = draw_interests(embeddings, cumulative, n, rng)
            bias = rng.uniform(0, 10, n)
            # Between a half and two, quartiles .66, .99 and 1.5.
            u = rng.uniform(-1, 1, n)
            sharpness = 2 ** (np.sign(u) * np.abs(u) ** 0.76)
            for i, row in enumerate(interests.tolist()):
                user = {"user": start + i, "interests": row}
                line = {**user, "consume_bias": float(bias[i]), "consume_sharpness": float(sharpness[i])}
                file.write(json.dumps(line) + "\n")
