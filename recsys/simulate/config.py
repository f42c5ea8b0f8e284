"""The original's ``env.yml``: where the world's files stand, what a listener's line may leave out, where the service is.

In goes a path; out comes an :class:`EnvConfig`. Every section and key may be left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from pydantic import TypeAdapter

from recsys import urls
from recsys.exceptions import InvalidInputError, WorldError
from recsys.yaml_file import read_yaml


@dataclass(frozen=True)
class Defaults:
    """What a listener has unless the line in ``users.json`` says otherwise.

    Attributes:
        interest_neighbours: number of tracks nearest to an interest from which a session's first track is drawn.
        consume_bias, consume_sharpness: threshold and slope of the listener's taste.
        session_budget: how many disappointments a session survives, less one.
        artist_discount_gamma: factor on the time for every earlier play of the artist in the session.
    """

    interest_neighbours: int = 10
    consume_bias: float = 5.0
    consume_sharpness: float = 1.0
    session_budget: int = 5
    artist_discount_gamma: float = 0.9


@dataclass(frozen=True)
class EnvConfig:
    """A read ``env.yml``; a path or URL that it does not give is None."""

    tracks: Path | None = None
    embeddings: Path | None = None
    users: Path | None = None
    defaults: Defaults = Defaults()
    service_url: str | None = None


def read_env(path: Path) -> EnvConfig:
    """Read an ``env.yml``; relative paths in it start from its directory or else the working directory, whichever has them.

    Raises:
        WorldError: the file is missing, not YAML, or a value has the wrong type or range; names file, key and value.
    """
    data = read_yaml(path, "environment", WorldError) or {}
    tracks = _section(path, data, "track_catalog_config")
    users = _section(path, data, "user_catalog_config")
    remote = _section(path, data, "remote_recommender_config")
    given = {
        f.name: parameter(f.name, users[f"default_{f.name}"], f"{path}: user_catalog_config.default_{f.name}")
        for f in fields(Defaults)
        if f"default_{f.name}" in users
    }
    return EnvConfig(
        tracks=_file(path, tracks, "track_meta_path"),
        embeddings=_file(path, tracks, "track_embeddings_path"),
        users=_file(path, users, "user_catalog_path"),
        defaults=TypeAdapter(Defaults).validate_python(given),
        service_url=_url(path, remote),
    )


def parameter(name: str, value: object, where: str) -> float:
    """A listener's parameter as it was given: an integer for a count, a finite number for the rest.

    Args:
        where: where it stands, for people.

    >>> parameter("artist_discount_gamma", 1.2, "env.yml: default_artist_discount_gamma")
    Traceback (most recent call last):
    recsys.exceptions.WorldError: env.yml: default_artist_discount_gamma is 1.2; it must be a number from 0 to 1

    Raises:
        WorldError: it is out of its range.
    """
    if name in ("interest_neighbours", "session_budget"):
        if type(value) is int and 1 <= value < 2**31:
            return value
        raise WorldError(f"{where} is {value!r}; it must be an integer from 1")
    is_share = name == "artist_discount_gamma"
    if (type(value) is float or type(value) is int) and (0 <= value <= 1 if is_share else abs(value) < 1e9):
        return value
    raise WorldError(f"{where} is {value!r}; it must be {'a number from 0 to 1' if is_share else 'a finite number'}")


def _section(path: Path, data: object, name: str) -> Mapping[str, object]:
    section = data.get(name) or {} if isinstance(data, dict) else None
    if not isinstance(section, dict):
        raise WorldError(f"{path}: {name} must be a mapping of settings")
    return section


def _file(path: Path, section: Mapping[str, object], key: str) -> Path | None:
    value = section.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise WorldError(f"{path}: {key} is {value!r}, not a path")
    beside = path.parent / value
    try:
        return beside if beside.exists() else Path(value)
    except (OSError, ValueError) as error:
        raise WorldError(f"{path}: {key} is {value[:100]!r}, which can be no path: {error}") from None


def _url(path: Path, remote: Mapping[str, object]) -> str | None:
    if "host" not in remote and "port" not in remote:
        return None
    host, port = remote.get("host", "127.0.0.1"), remote.get("port", 5000)
    if not isinstance(host, str) or type(port) is not int or not 0 < port < 65536:
        raise InvalidInputError(f"{path}: remote_recommender_config needs a host name and a port, not {host!r} and {port!r}")
    return f"http://{urls.authority(host, port)}"
