"""What listeners like: embeddings, interests and parameters, which nobody but the simulator may know.

In goes a world directory or an ``env.yml``; out comes a :class:`Listeners` of aligned arrays, of all listeners and tracks or of
the first so many: a world only grows, so these are the world as it was when it had as many. The table of first tracks takes
seconds to compute at full size, so it is cached beside the world (or in the person's cache directory if that is read-only).
"""

import hashlib
import logging
import os
import uuid
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys import catalog
from recsys.exceptions import InvalidInputError, WorldError
from recsys.simulate.config import Defaults, EnvConfig, parameter, read_env
from recsys.simulate.nearest import nearest_tracks

log = logging.getLogger(__name__)

EMBEDDINGS = "tracks.npy"


@dataclass(frozen=True)
class Listeners:
    """Listeners and the space in which they judge tracks; row r of every per-user array is the r-th line of the users file.

    Attributes:
        catalogue: the tracks' names.
        embeddings: float32 [tracks, dims].
        users: int64 [users], ids.
        interests: int64 [total], the interests of all users one after another.
        starts: int64 [users + 1], where each user's interests start.
        neighbours, bias, sharpness, budget, gamma: [users], see :class:`recsys.simulate.config.Defaults`.
        first_tracks: int32 [distinct interests, most neighbours], nearest first; empty if not asked for.
        first_row: int64 [total], the row of ``first_tracks`` of each entry of ``interests``.
    """

    catalogue: catalog.Catalogue
    embeddings: npt.NDArray[np.float32]
    users: npt.NDArray[np.int64]
    interests: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    bias: npt.NDArray[np.float64]
    sharpness: npt.NDArray[np.float64]
    budget: npt.NDArray[np.int64]
    gamma: npt.NDArray[np.float64]
    first_tracks: npt.NDArray[np.int32]
    first_row: npt.NDArray[np.int64]


def load_listeners(
    world: Path | None, env_config: Path | None = None, *, listeners: int = 0, tracks: int = 0, first_tracks: bool = True
) -> Listeners:
    """Load listeners from a world directory, or from the files that an ``env.yml`` names if ``world`` is None.

    Defaults come from ``env_config`` if given, else from the world's own ``env.yml`` if there is one.

    Args:
        listeners: how many, from the first line of the users file on; 0: all. tracks: how many, from track 0 on; 0: all.
        first_tracks: whether the table of first tracks is wanted.

    Raises:
        InvalidInputError: neither is given. WorldError: a file is missing, malformed or does not fit the others.
    """
    if world is None and env_config is None:
        raise InvalidInputError("no world: give a world directory or an env.yml")
    if world is not None and not world.is_dir():
        raise WorldError(f"world {str(world)!r} is not a directory; give one with tracks.json, tracks.npy and users.json")
    config = EnvConfig()
    if env_config is not None:
        config = read_env(env_config)
    elif world is not None and (world / "env.yml").exists():
        config = read_env(world / "env.yml")
    if world is not None:
        files = (world / catalog.TRACKS, world / EMBEDDINGS, world / catalog.USERS)
    else:
        names, embeddings, users = config.tracks, config.embeddings, config.users
        if names is None or embeddings is None or users is None:
            paths = {"track_meta_path": names, "track_embeddings_path": embeddings, "user_catalog_path": users}
            missing = next(key for key, path in paths.items() if path is None)
            raise WorldError(f"{env_config} does not name {missing}; add it, or give a world directory")
        files = (names, embeddings, users)
    return _load(files, config.defaults, listeners, tracks, first_tracks)


def load_embeddings(path: Path, tracks: int) -> npt.NDArray[np.float32]:
    """Read the embeddings of the first ``tracks`` tracks, float32 [tracks, dims]; a world that grows has those of its next tracks
    before it has the tracks.

    Raises:
        WorldError: not such an array, or a value is not finite.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise WorldError(f"{path} cannot be read ({error.strerror or error})") from None
    except Exception as error:  # NumPy raises what its parser of headers raises, a SyntaxError too
        raise WorldError(f"{path} is not a NumPy array file: {error}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or array.shape[1] == 0:
        what = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "several arrays"
        raise WorldError(f"{path} holds {what}; it must be one floating-point array [tracks, dims]")
    if len(array) < tracks:
        raise WorldError(f"{path} has {len(array)} rows, but there are {tracks} tracks; row i must be track i")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array[:tracks], np.float32)
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise WorldError(f"{path}: row {int(np.argmin(finite))} has a value that is not a finite number of 32 bits")
    return array


def first_track_cache(directory: Path) -> Path:
    """Where a table of first tracks is kept beside the files of a world; the file name ends with a key of its content."""
    return directory / ".cache" / "first-tracks"


def _load(files: tuple[Path, Path, Path], defaults: Defaults, first_users: int, tracks: int, first_tracks: bool) -> Listeners:
    names, embeddings, users = files
    # A world that grows gets embeddings first, then tracks, then those who like them: what is read the other way round fits.
    ids, interests, columns = _read_users(users, defaults, first_users)
    catalogue = catalog.read_tracks(names)
    if tracks > catalogue.size:
        raise InvalidInputError(f"tracks is {tracks}, but {names} has {catalogue.size}; 0 takes all")
    if tracks:
        catalogue = catalogue.first(tracks)
    space = load_embeddings(embeddings, catalogue.size)
    flat = np.array([track for row in interests for track in row], np.int64)
    counts = np.array([len(row) for row in interests], np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    unknown = np.flatnonzero(flat >= catalogue.size)
    if len(unknown):
        line = int(np.searchsorted(starts, unknown[0], side="right"))
        raise _strange_interest(users, line, int(flat[unknown[0]]), catalogue.size)
    neighbours = np.minimum(np.array(columns["interest_neighbours"], np.int64), catalogue.size)
    distinct, row = np.unique(flat, return_inverse=True)
    table = np.zeros((0, 0), np.int32)
    if first_tracks:
        table = _cached_table(embeddings.parent, space, distinct, int(neighbours.max()))
    return Listeners(
        catalogue=catalogue,
        embeddings=space,
        users=np.array(ids, np.int64),
        interests=flat,
        starts=starts,
        neighbours=neighbours,
        bias=np.array(columns["consume_bias"], np.float64),
        sharpness=np.array(columns["consume_sharpness"], np.float64),
        budget=np.array(columns["session_budget"], np.int64),
        gamma=np.array(columns["artist_discount_gamma"], np.float64),
        first_tracks=table,
        first_row=row.reshape(-1),
    )


def _read_users(path: Path, defaults: Defaults, first: int) -> tuple[list[int], list[list[int]], dict[str, list[float]]]:
    """Ids, interests and parameters of the first so many listeners (0: of all), in the order of the lines."""
    seen: dict[int, list[int]] = {}
    preset: list[tuple[str, float]] = [(f.name, getattr(defaults, f.name)) for f in fields(Defaults)]
    columns: dict[str, list[float]] = {name: [] for name, _ in preset}
    for number, line in islice(catalog.json_lines(path), first or None):
        user = catalog.user_id(path, number, line, seen)
        interests = line.get("interests")
        if type(interests) is not list or not interests:
            raise WorldError(f"{path} line {number}: interests is {interests!r}, not a list of at least one track id")
        for track in interests:
            if type(track) is not int or not 0 <= track < 2**31:
                raise _strange_interest(path, number, track)
        seen[user] = interests
        for name, default in preset:
            given = line.get(name, default)
            columns[name].append(default if given is default else parameter(name, given, f"{path} line {number}: {name}"))
    if not seen:
        raise WorldError(f"{path} has no users; at least one is needed")
    if len(seen) < first:
        raise InvalidInputError(f"listeners is {first}, but {path} has {len(seen)}; 0 takes all")
    return list(seen), list(seen.values()), columns


def _strange_interest(path: Path, number: int, track: object, tracks: int = 2**31) -> WorldError:
    return WorldError(f"{path} line {number}: interest {track!r} is not a track id from 0 to {tracks - 1}")


def _cached_table(beside: Path, space: npt.NDArray[np.float32], queries: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int32]:
    """The table of first tracks from a cache, or computed and cached."""
    key = hashlib.sha256(f"v1 {space.shape} {k} ".encode())
    key.update(space.data)
    key.update(queries.tobytes())
    name = f"{first_track_cache(beside).name}-{key.hexdigest()[:24]}.npy"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "nightshift"
    places = (first_track_cache(beside).parent / name, home / name)
    for path in places:
        try:
            table: npt.NDArray[np.int32] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            continue
        if table.shape == (len(queries), k) and table.dtype == np.int32:
            return table
    if len(queries) * len(space) > 10**8:
        log.info("computing the first tracks of %d interests among %d tracks, once", len(queries), len(space))
    table = nearest_tracks(space, queries, k)
    # A read-only world stays as it is, even for a user who could write there all the same.
    writable = bool(beside.stat().st_mode & 0o222)
    for path in places if writable else places[1:]:
        try:
            _save(path, table)
        except OSError as error:
            log.debug("first tracks cannot be kept in %s: %s", path, error)
            continue
        break
    return table


def _save(path: Path, table: npt.NDArray[np.int32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.npy")
    try:
        np.save(partial, table)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
