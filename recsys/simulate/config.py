"""The original's ``env.yml``: where the world's files stand, what a listener's line may leave out, where the service is.

In goes a path; out comes an :class:`EnvConfig`. Every section and key may be left out.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

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
    given = {f.name: users[f"default_{f.name}"] for f in fields(Defaults) if f"default_{f.name}" in users}
    for name, value in given.items():
        problem = parameter_problem(name, value)
        if problem:
            raise WorldError(f"{path}: user_catalog_config.default_{name} is {value!r}; {problem}")
    return EnvConfig(
        tracks=_file(path, tracks, "track_meta_path"),
        embeddings=_file(path, tracks, "track_embeddings_path"),
        users=_file(path, users, "user_catalog_path"),
        defaults=Defaults(**given),
        service_url=_url(path, remote),
    )


def parameter_problem(name: str, value: Any) -> str | None:
    """What is wrong with a listener's parameter, or None; integers for counts, finite numbers for the rest.

    >>> parameter_problem("artist_discount_gamma", 1.2)
    'it must be a number from 0 to 1'
    """
    if name in ("interest_neighbours", "session_budget"):
        ok = type(value) is int and 1 <= value < 2**31
        return None if ok else "it must be an integer from 1"
    ok = type(value) in (int, float) and abs(value) < 1e9
    if name == "artist_discount_gamma":
        return None if ok and 0 <= value <= 1 else "it must be a number from 0 to 1"
    return None if ok else "it must be a finite number"


def _section(path: Path, data: Any, name: str) -> dict[str, Any]:
    section = data.get(name) or {} if isinstance(data, dict) else None
    if not isinstance(section, dict):
        raise WorldError(f"{path}: {name} must be a mapping of settings")
    return section


def _file(path: Path, section: dict[str, Any], key: str) -> Path | None:
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


def _url(path: Path, remote: dict[str, Any]) -> str | None:
    if "host" not in remote and "port" not in remote:
        return None
    host, port = remote.get("host", "127.0.0.1"), remote.get("port", 5000)
    if not isinstance(host, str) or type(port) is not int or not 0 < port < 65536:
        raise InvalidInputError(f"{path}: remote_recommender_config needs a host name and a port, not {host!r} and {port!r}")
    return f"http://{urls.authority(host, port)}"
