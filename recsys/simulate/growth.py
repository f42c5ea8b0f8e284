"""A world that grows: listeners and tracks are appended, tracks are retired, and nobody and nothing gets another number.

In go a world directory, generated or in the original's formats, and how much it grows by; the same directory holds the larger
world afterwards. New tracks, of new artists and old ones, lie in the space of embeddings as the others do: with the same mean,
the same variances in the same directions, and as near to their artist and scene. New listeners have the temperament of one who
is there already and interests of their own.

The files change one by one, each by a rename: embeddings, tracks, users. Who reads them meanwhile, in the opposite order, finds a
world that fits together. The record (:mod:`recsys.simulate.growth_record`) says before what will be done: growth that was killed
is finished by the next one.
"""

import fcntl
import io
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys import catalog
from recsys.exceptions import InvalidInputError, WorldError
from recsys.simulate.config import Defaults
from recsys.simulate.growth_record import RECORD, GrowthStep, WorldRecord, checksum_of, replace_file
from recsys.simulate.interests import draw_interests
from recsys.simulate.listeners import EMBEDDINGS, load_listeners
from recsys.simulate.names import artist_names, titles
from recsys.simulate.world import ARTIST, GENRE, SCENE

log = logging.getLogger(__name__)

#: Correlation of two tracks of an artist, and of two artists of a scene.
OF_ARTIST, OF_SCENE = GENRE + SCENE + ARTIST, GENRE + SCENE
#: Listeners whose interests are drawn at once.
BLOCK = 2048


@dataclass(frozen=True)
class Growth:
    """How much a world grows by: listeners and tracks to append, tracks to retire."""

    users: int = 0
    tracks: int = 0
    retire: int = 0

    @classmethod
    def parse(cls, text: str) -> "Growth":
        """Read what a setting says.

        >>> Growth.parse("users=100,tracks=50,retire=5")
        Growth(users=100, tracks=50, retire=5)
        >>> Growth.parse("users=100,users=7")
        Traceback (most recent call last):
        recsys.exceptions.InvalidInputError: growth 'users=100,users=7' must be of the form users=100,tracks=50,retire=5

        Raises:
            InvalidInputError: it has another form.
        """
        found: dict[str, int] = {}
        known = {field.name for field in fields(cls)}
        for part in text.split(","):
            name, _, number = part.strip().partition("=")
            if name not in known - found.keys() or not (number.isascii() and number.isdigit()):
                raise InvalidInputError(f"growth {text!r} must be of the form users=100,tracks=50,retire=5")
            found[name] = int(number)
        return cls(**found)

    def check(self) -> None:
        """Raise InvalidInputError if a number is out of range, or all are 0."""
        for name, least in vars(self).items():
            if not 0 <= least < 2**31:
                raise InvalidInputError(f"{name} of a growth is {least}; it must be from 0 to {2**31 - 1}")
        if not any(vars(self).values()):
            raise InvalidInputError("a growth by nothing; give a number of users, of tracks, or of tracks to retire")


def grow(world: Path, growth: Growth, *, seed: int, log_date: date | None = None, dry_run: bool = False) -> GrowthStep:
    """Let a world grow by one step. Growth that was killed is finished first; if that is the one asked for, nothing else is done.

    Args:
        seed: what is drawn from, together with the world's sizes. log_date: the step comes before its traffic; a world grows once
            for each, and a second time does nothing. dry_run: change nothing, tell what would be done.

    Returns:
        The step that was, or would be, done.

    Raises:
        InvalidInputError: a number is out of range, or more tracks are to be retired than are available. WorldError: no such
            world, or it cannot be written.
    """
    growth.check()
    day = str(log_date) if log_date else ""
    with _alone(world, writing=not dry_run):
        record = WorldRecord.read(world)
        unfinished = record.pending
        if unfinished is not None:
            if dry_run:
                raise WorldError(
                    f"{world} has a growth that was interrupted, and is finished before another; grow it without a dry run"
                )
            log.info("finishing the growth of %s that was interrupted", world)
            record = _finish(world, record, unfinished)
            if _is(unfinished, growth, seed, day):
                return record.growth[-1]
        found = record.step_of(day) if day else None
        if found is not None:
            return found
        step = _begin(world, growth, seed, day)
        if dry_run:
            return step
        record = record.begun(step)
        record.write(world)
        return _finish(world, record, step).growth[-1]


def _is(step: GrowthStep, growth: Growth, seed: int, day: str) -> bool:
    wanted = growth.users, growth.tracks, growth.retire, seed, day
    return (step.users, step.tracks, len(step.retired), step.seed, step.log_date) == wanted


@contextmanager
def _alone(world: Path, *, writing: bool) -> Iterator[None]:
    """Keep others from letting the world grow, too; they wait."""
    if not world.is_dir():
        raise WorldError(f"world {str(world)!r} is not a directory; give one with tracks.json, tracks.npy and users.json")
    # Also for somebody who could write there all the same.
    if writing and not (world.stat().st_mode & 0o222 and os.access(world, os.W_OK)):
        raise WorldError(
            f"world {world} is read-only, as the stack's is; a world that grows must be writable: mount it so, or use a copy"
        )
    descriptor = os.open(world, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise WorldError(f"world {world} cannot grow: {error.strerror or error}; see that it can be written") from None
    finally:
        os.close(descriptor)


def _begin(world: Path, growth: Growth, seed: int, day: str) -> GrowthStep:
    """Check what is asked for, and draw what is retired."""
    them = load_listeners(world, first_tracks=False)
    size, available = them.catalogue.size, np.flatnonzero(them.catalogue.available)
    rows = len(np.load(world / EMBEDDINGS, mmap_mode="r", allow_pickle=False))
    if rows != size:
        raise WorldError(f"{world / EMBEDDINGS} has {rows} rows, but there are {size} tracks; cut it before the world grows")
    if growth.retire > len(available):
        raise InvalidInputError(f"{growth.retire} tracks are to be retired, but {len(available)} are available in {world}")
    if growth.retire == len(available) and not growth.tracks:
        raise InvalidInputError(f"all {len(available)} tracks of {world} are to be retired; one at least must stay")
    if size + growth.tracks >= 2**31 - 1:
        raise InvalidInputError(f"{size} and {growth.tracks} tracks are too many; a world has fewer than {2**31 - 1}")
    if len(them.users) + growth.users >= 2**31:
        raise InvalidInputError(f"{len(them.users)} and {growth.users} users are too many; a world has fewer than {2**31}")
    if int(them.users.max()) + growth.users >= catalog.MAX_USER:
        raise InvalidInputError(f"{growth.users} users after {int(them.users.max())} are too many; ids end below 2^63")
    rng = _streams(seed, len(them.users), size)[0]
    retired = np.sort(rng.choice(available, growth.retire, replace=False)).tolist()
    return GrowthStep(
        users=growth.users,
        tracks=growth.tracks,
        retired=retired,
        seed=seed,
        log_date=day,
        users_before=len(them.users),
        tracks_before=size,
    )


def _streams(seed: int, users: int, tracks: int) -> list[np.random.Generator]:
    """One stream a part: what is retired, artists and names, embeddings, listeners."""
    return [np.random.default_rng([seed, users, tracks, part]) for part in range(4)]


def _finish(world: Path, record: WorldRecord, step: GrowthStep) -> WorldRecord:
    """Make the files what the step says, from the world before it, whichever of them are so already."""
    _, words, space, taste = _streams(step.seed, step.users_before, step.tracks_before)
    catalogue, stored = catalog.load_tracks(world), np.load(world / EMBEDDINGS, allow_pickle=False)
    _check_under_way(world, step, len(catalog.load_users(world)), catalogue.size, len(stored))
    catalogue, stored = catalogue.first(step.tracks_before), stored[: step.tracks_before]
    artist_of, names = _artists(catalogue, step.tracks, words)
    if step.tracks:
        new = _embeddings(stored, catalogue.artist_of, artist_of, space)
        stored = np.concatenate([stored, new.astype(stored.dtype)])
        file = io.BytesIO()
        np.save(file, stored)
        replace_file(world / EMBEDDINGS, file.getvalue())
    if step.tracks or step.retired:
        titled = zip(artist_of.tolist(), titles(step.tracks, words), strict=True)
        lines = [
            json.dumps({"artist": names[artist], "title": title, "track": step.tracks_before + i})
            for i, (artist, title) in enumerate(titled)
        ]
        _write_tracks(world / catalog.TRACKS, step, lines)
    if step.users:
        available = catalogue.available.copy()
        available[step.retired] = False
        _write_users(world / catalog.USERS, step, stored.astype(np.float32), available, taste)
    record = record.ended(checksum_of(world))
    record.write(world)
    log.info("%s grew by %d users and %d tracks; %d retired", world, step.users, step.tracks, len(step.retired))
    return record


def _check_under_way(world: Path, step: GrowthStep, users: int, tracks: int, rows: int) -> None:
    """See that every file is as it was before the step or as it will be after it."""
    for name, found, before, after in (
        (catalog.USERS, users, step.users_before, step.users_after),
        (catalog.TRACKS, tracks, step.tracks_before, step.tracks_after),
        (EMBEDDINGS, rows, step.tracks_before, step.tracks_after),
    ):
        if found not in (before, after):
            raise WorldError(
                f"{world / name} has {found} entries, but the growth under way in {RECORD} leads from {before} to {after}; "
                "restore what has changed meanwhile"
            )


def _artists(catalogue: catalog.Catalogue, count: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Artist of each new track, int64 [count], and the names of all artists.

    A share of them as large as that of artists among tracks is by somebody new; the others by artists who have many already, as
    likely as they have (Simon, On a class of skew distribution functions, Biometrika, 1955).
    """
    names, share = list(catalogue.artists), len(catalogue.artists) / catalogue.size
    is_new = rng.random(count) < share
    earlier = rng.random(count)
    artists = catalogue.artist_of.tolist()
    wanted = len(names)
    for new, place in zip(is_new.tolist(), earlier.tolist(), strict=True):
        artists.append(wanted if new else artists[int(place * len(artists))])
        wanted += new
    known = set(names)
    while len(names) < wanted:
        fresh = [name for name in artist_names(wanted - len(names), rng) if name not in known]
        names += fresh
        known.update(fresh)
    return np.array(artists[catalogue.size :], np.int64), names


def _embeddings(
    stored: npt.NDArray[np.floating],
    artist_of: npt.NDArray[np.int32],
    new_artists: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Points of the new tracks, float64 [new, dims].

    Each is drawn from the normal distribution that it has given its artist's tracks so far, or those of another artist of the
    scene if there are none: n points with correlation s among them and r with the next one leave it the mean r / (1 + (n - 1) s)
    times their sum, and 1 - n r^2 / (1 + (n - 1) s) of the variance.
    """
    points = stored.astype(np.float64)
    mean = points.mean(axis=0)
    points -= mean
    variances, directions = np.linalg.eigh(points.T @ points / len(points))
    root = (directions * np.sqrt(np.maximum(variances, 0))) @ directions.T
    noise: npt.NDArray[np.float64] = rng.standard_normal((len(new_artists), len(mean))) @ root
    neighbours = rng.integers(0, len(artist_of), len(new_artists))
    artists = int(max(artist_of.max(), new_artists.max(initial=0))) + 1
    counts = np.bincount(artist_of, minlength=artists)
    sums = np.zeros((artists, len(mean)))
    np.add.at(sums, artist_of, points)
    new = np.empty_like(noise)
    for i, artist in enumerate(new_artists.tolist()):
        like, r = (artist, OF_ARTIST) if counts[artist] else (int(artist_of[neighbours[i]]), OF_SCENE)
        spread = 1 + (counts[like] - 1) * OF_ARTIST
        new[i] = r / spread * sums[like] + np.sqrt(1 - counts[like] * r * r / spread) * noise[i]
        sums[artist] += new[i]
        counts[artist] += 1
    new += mean
    return new


def _write_tracks(path: Path, step: GrowthStep, new: list[str]) -> None:
    """Mark what is retired and append what is new; the other lines stay as they are."""
    retired, lines = set(step.retired), []
    for line in path.read_bytes().rstrip().split(b"\n"):
        track = json.loads(line)
        if track["track"] in retired:
            line = json.dumps(track | {"available": False}).encode()
        if track["track"] < step.tracks_before:
            lines.append(line)
    replace_file(path, b"\n".join([*lines, *(line.encode() for line in new)]) + b"\n")


def _write_users(
    path: Path,
    step: GrowthStep,
    embeddings: npt.NDArray[np.float32],
    available: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> None:
    """Append listeners; a track is as likely to interest them as those who are there, a new one as some other track."""
    lines = path.read_bytes().rstrip().split(b"\n")[: step.users_before]
    there = [json.loads(line) for line in lines]
    weight = np.bincount([track for user in there for track in user["interests"]], minlength=step.tracks_before) + 0.5
    weight = np.concatenate([weight * available, rng.choice(weight, step.tracks)])
    cumulative = np.cumsum(weight)
    cumulative /= cumulative[-1]
    likes = rng.integers(0, len(there), step.users)
    count = max(len(there[like]["interests"]) for like in likes.tolist())
    temperament = tuple(field.name for field in fields(Defaults))
    first = max(user["user"] for user in there) + 1
    for start in range(0, step.users, BLOCK):
        block = likes[start : start + BLOCK].tolist()
        interests = draw_interests(embeddings, cumulative, len(block), rng, count)
        for place, (like, row) in enumerate(zip(block, interests.tolist(), strict=True), first + start):
            alike = {name: there[like][name] for name in temperament if name in there[like]}
            user = {"user": place, "interests": row[: len(there[like]["interests"])]}
            lines.append(json.dumps(user | alike).encode())
    replace_file(path, b"\n".join(lines) + b"\n")
