"""What a client of the Docker engine may ask for: to run simulation containers, and to follow and end these.

In goes a request's method, target and body; out comes what may be forwarded instead, put together anew from the parts that were
checked, or a :class:`RefusedError`. Whatever is not named here is refused, and containers get fewer rights than asked for.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

#: Carried by every container that was made through here; only these may be touched.
LABEL = "org.nightshift.stack"
CONTAINER = r"/containers/(?P<id>[0-9a-f]{12,64})"
#: What a client may call a container, so that it finds it again.
NAME = r"nightshift-[0-9a-f]{8}-[0-9a-f]{8}-[A-Za-z0-9_.-]{1,100}"
MAX_PROCESSES = 256
ENVIRONMENT = re.compile(r"RECSYS_[A-Z_]{1,60}=[\w.:/ -]{0,200}")
#: Less would let a container die at its start, as the engine kills what needs more.
MIN_MEMORY = 64 * 2**20
LOG_OPTIONS = {"max-size": re.compile(r"[1-9]\d{0,2}[km]"), "max-file": re.compile(r"[1-9]")}
#: What begins the labels that may be asked for: by those of others, compose and the like know what is theirs.
LABELS = "org.nightshift."


class RefusedError(Exception):
    """The request is not allowed; the message says why."""


@dataclass(frozen=True)
class Allowed:
    """What containers are made of.

    Args:
        stack: value of :data:`LABEL`.
        image: the only image. network: the only network.
        mounts: volume by path in the container; always read-only.
        memory: bytes at most.
    """

    stack: str
    image: str
    network: str
    mounts: Mapping[str, str]
    memory: int


@dataclass(frozen=True)
class Forward:
    """A request for the engine. ``container``: it is about this one, which must carry the label."""

    method: str
    target: str
    body: bytes = b""
    container: str = ""
    upgrade: bool = False


#: Method and path to the names that the query may hold.
ROUTES: list[tuple[str, re.Pattern[str], frozenset[str]]] = [
    (method, re.compile(path), frozenset(names.split()))
    for method, path, names in (
        ("GET", "/_ping", ""),
        ("HEAD", "/_ping", ""),
        ("GET", "/version", ""),
        ("GET", "/images/json", "only_ids all filters"),
        ("POST", "/containers/create", "name"),
        ("GET", f"{CONTAINER}/json", ""),
        ("GET", f"/containers/(?P<id>{NAME})/json", ""),
        ("GET", f"{CONTAINER}/logs", "stdout stderr follow timestamps tail since until"),
        ("POST", f"{CONTAINER}/attach", "stdout stderr stream logs"),
        ("POST", f"{CONTAINER}/start", ""),
        ("POST", f"{CONTAINER}/stop", "t"),
        ("POST", f"{CONTAINER}/kill", "signal"),
        ("POST", f"{CONTAINER}/wait", "condition"),
        ("DELETE", CONTAINER, "v force"),
    )
]


def judge(method: str, target: str, body: bytes, allowed: Allowed) -> Forward:
    """What may be forwarded for a request.

    Raises:
        RefusedError: nothing.
    """
    path, _, query = target.partition("?")
    version = re.match(r"/v1\.\d{1,2}(?=/)", path)
    plain = path[version.end() :] if version else path
    for wanted, pattern, names in ROUTES:
        found = pattern.fullmatch(plain)
        if found and method == wanted:
            parameters = _parameters(query, names)
            break
    else:
        raise RefusedError(f"{method} {plain[:100]} is not among the requests that are allowed")
    if plain == "/images/json":
        _check_images(parameters, allowed.image)
    if plain == "/containers/create":
        _check_name(parameters)
        body = json.dumps(container(_parse(body), allowed)).encode()
    elif body:
        raise RefusedError(f"{method} {plain[:100]} takes no body")
    # The path matched a pattern without any character that could mean something else.
    target = path + (f"?{urlencode(parameters)}" if parameters else "")
    identity = found.groupdict().get("id") or ""
    return Forward(method, target, body, identity, upgrade=plain.endswith("/attach"))


def container(asked: Any, allowed: Allowed) -> dict[str, Any]:
    """The body of a create request, made of what was asked for and checked.

    Raises:
        RefusedError: it asks for something else than a simulation container.
    """
    made = _checked(
        asked,
        "the container",
        {
            "Image": _equals(allowed.image),
            "Cmd": _command,
            "Env": _environment,
            "Labels": _labels,
            "AttachStdout": _flag,
            "AttachStderr": _flag,
            "HostConfig": lambda value, name: _host_config(value, name, allowed),
        },
    )
    for name in ("Image", "Cmd", "HostConfig"):
        if name not in made:
            raise RefusedError(f"the container has no {name}")
    made["Labels"] = {**made.get("Labels", {}), LABEL: allowed.stack}
    return made


def _host_config(value: Any, name: str, allowed: Allowed) -> dict[str, Any]:
    made = _checked(
        value,
        name,
        {
            "NetworkMode": _equals(allowed.network),
            "Mounts": lambda mounts, where: [_mount(m, where, allowed.mounts) for m in _list(mounts, where)],
            "Memory": _from_to(MIN_MEMORY, allowed.memory),
            "CpuShares": _from_to(2, 262_144),
            "LogConfig": _log_config,
        },
    )
    for required in ("NetworkMode", "Memory"):
        if required not in made:
            raise RefusedError(f"{name} has no {required}")
    return made | {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"], "PidsLimit": MAX_PROCESSES}


def _mount(value: Any, name: str, mounts: Mapping[str, str]) -> dict[str, Any]:
    made = _checked(value, name, {"Type": _equals("volume"), "Source": _text, "Target": _text, "ReadOnly": _equals(True)})
    if (
        made.get("Type") != "volume"
        or made.get("ReadOnly") is not True
        or made.get("Target") not in mounts
        or made.get("Source") != mounts[made["Target"]]
    ):
        raise RefusedError(f"{name} may only be read-only volumes: {', '.join(f'{v} at {p}' for p, v in mounts.items())}")
    return made


def _log_config(value: Any, name: str) -> dict[str, Any]:
    made = _checked(value, name, {"Type": _equals("json-file"), "Config": _texts})
    for option, text in made.get("Config", {}).items():
        if option not in LOG_OPTIONS or not LOG_OPTIONS[option].fullmatch(text):
            raise RefusedError(f"{name} may set max-size up to 999m and max-file up to 9, not {option[:60]!r} to {text[:60]!r}")
    return made


Check = Callable[[Any, str], Any]


def _checked(value: Any, name: str, checks: Mapping[str, Check]) -> dict[str, Any]:
    """The named parts, checked. Others must be empty: the engine knows too many to list, and reads names in any case."""
    if not isinstance(value, dict):
        raise RefusedError(f"{name} must be an object")
    made = {}
    for key, part in value.items():
        if part is None or part is False or part in ("", 0, [], {}):
            continue
        if key not in checks:
            raise RefusedError(f"{name} may not have {key[:60]!r}")
        made[key] = checks[key](part, f"{key} of {name}" if name != "the container" else key)
    return made


def _equals(wanted: Any) -> Check:
    def check(value: Any, name: str) -> Any:
        if type(value) is not type(wanted) or value != wanted:
            raise RefusedError(f"{name} must be {wanted!r}")
        return value

    return check


def _from_to(least: int, most: int) -> Check:
    def check(value: Any, name: str) -> int:
        if type(value) is not int or not least <= value <= most:
            raise RefusedError(f"{name} must be a number from {least} to {most}")
        return value

    return check


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RefusedError(f"{name} must be text")
    return value


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise RefusedError(f"{name} must be true or false")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > 100:
        raise RefusedError(f"{name} must be a short list")
    return value


def _command(value: Any, name: str) -> list[str]:
    words = [_text(word, name) for word in _list(value, name)]
    if words[:1] != ["recsys.simulate"]:
        raise RefusedError(f"{name} must begin with recsys.simulate")
    return words


def _environment(value: Any, name: str) -> list[str]:
    entries = [_text(entry, name) for entry in _list(value, name)]
    if not all(ENVIRONMENT.fullmatch(entry) for entry in entries):
        raise RefusedError(f"{name} may only hold plain RECSYS_… variables")
    return entries


def _labels(value: Any, name: str) -> dict[str, str]:
    found = _texts(value, name)
    for label in found:
        if not label.startswith(LABELS):
            raise RefusedError(f"{name} may only have those that begin with {LABELS}, not {label[:60]!r}")
    return found


def _texts(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise RefusedError(f"{name} must hold texts by name")
    return value


def _parameters(query: str, names: frozenset[str]) -> list[tuple[str, str]]:
    parameters = parse_qsl(query, keep_blank_values=True)
    given = [name for name, _ in parameters]
    # docker-py always says that it does not want these.
    parameters = [(name, value) for name, value in parameters if not (name == "link" and value == "False")]
    unknown = {name for name, _ in parameters} - names
    if unknown or len(set(given)) != len(given):
        raise RefusedError(f"the query may not hold {', '.join(sorted(unknown)) or 'a name twice'}")
    return parameters


def _check_images(parameters: list[tuple[str, str]], image: str) -> None:
    if _parse(dict(parameters).get("filters", "{}").encode()) != {"reference": [image]}:
        raise RefusedError(f"images may be listed with a filter for {image} only")


def _check_name(parameters: list[tuple[str, str]]) -> None:
    for _, name in parameters:
        if not re.fullmatch(NAME, name):
            raise RefusedError(f"the container may not be called {name[:60]!r}")


def _parse(body: bytes) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise RefusedError("a name stands twice in the body")
        return found

    try:
        return json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise RefusedError("the body is not JSON") from None
