"""What the proxy of the Docker engine lets through and refuses: bodies as DockerOperator sends them, and crafted ones."""

import contextlib
import copy
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "docker" / "dockerproxy"))

from policy import LABEL, Allowed, RefusedError, container, judge

ALLOWED = Allowed("night", "sim", "night_simulation", {"/world": "night_world", "/run/secrets": "night_secrets"}, 2 * 2**30)
ID = "0123456789abcdef" * 4
MOUNT = {"Type": "volume", "Source": "night_world", "Target": "/world", "ReadOnly": True}

#: What docker-py makes of a DockerOperator.
BODY: dict[str, Any] = {
    "Hostname": None, "Domainname": None, "ExposedPorts": None, "User": None, "Tty": False, "OpenStdin": False,
    "StdinOnce": False,
    "AttachStdin": False, "AttachStdout": True, "AttachStderr": True, "Env": ["RECSYS_SHARD=1"],
    "Cmd": ["recsys.simulate", "--recommender", "remote", "--episodes", "3"], "Image": "sim", "Volumes": None,
    "NetworkDisabled": False, "Entrypoint": None, "WorkingDir": None, "NetworkingConfig": None, "MacAddress": None,
    "Labels": {"org.nightshift.simulation": "/var/lib/nightshift"}, "StopSignal": None, "Healthcheck": None, "StopTimeout": None,
    "Runtime": None,
    "HostConfig": {
        "NetworkMode": "night_simulation", "Mounts": [MOUNT], "Memory": 2 * 2**30, "CpuShares": 1024, "AutoRemove": False,
        "LogConfig": {"Type": "json-file", "Config": {}}, "Privileged": False,
    },
}  # fmt: skip


def changed(path: str, value: Any) -> dict[str, Any]:
    """The body with one part set: ``HostConfig.Binds``."""
    body = copy.deepcopy(BODY)
    part = body
    *parents, last = path.split(".")
    for name in parents:
        part = part[name]
    part[last] = value
    return body


def test_a_simulation_container_is_made_with_fewer_rights() -> None:
    made = container(BODY, ALLOWED)
    assert made["Image"] == "sim"
    assert made["Labels"] == {"org.nightshift.simulation": "/var/lib/nightshift", LABEL: "night"}
    assert made["HostConfig"] == {
        "NetworkMode": "night_simulation", "Mounts": [MOUNT], "Memory": 2 * 2**30, "CpuShares": 1024,
        "LogConfig": {"Type": "json-file"}, "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"], "PidsLimit": 256,
    }  # fmt: skip
    assert "User" not in made


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("HostConfig.Privileged", True),
        ("HostConfig.Binds", ["/:/host"]),
        ("HostConfig.Binds", ["night_world:/world:rw"]),
        ("HostConfig.NetworkMode", "host"),
        ("HostConfig.NetworkMode", "container:postgres"),
        ("HostConfig.NetworkMode", "night_backend"),
        ("HostConfig.NetworkMode", None),
        ("HostConfig.PidMode", "host"),
        ("HostConfig.IpcMode", "host"),
        ("HostConfig.UTSMode", "host"),
        ("HostConfig.UsernsMode", "host"),
        ("HostConfig.CgroupnsMode", "host"),
        ("HostConfig.CgroupParent", "/"),
        ("HostConfig.CapAdd", ["SYS_ADMIN"]),
        ("HostConfig.SecurityOpt", ["seccomp=unconfined"]),
        ("HostConfig.Devices", [{"PathOnHost": "/dev/sda"}]),
        ("HostConfig.DeviceRequests", [{"Count": -1}]),
        ("HostConfig.DeviceCgroupRules", ["a *:* rwm"]),
        ("HostConfig.VolumesFrom", ["postgres"]),
        ("HostConfig.PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
        ("HostConfig.PublishAllPorts", True),
        ("HostConfig.ExtraHosts", ["service:10.0.0.1"]),
        ("HostConfig.Sysctls", {"kernel.shmmax": "1"}),
        ("HostConfig.Runtime", "other"),
        ("HostConfig.MaskedPaths", ["/x"]),
        ("HostConfig.OomScoreAdj", -1000),
        ("HostConfig.RestartPolicy", {"Name": "always"}),
        ("HostConfig.Memory", 2 * 2**30 + 1),
        ("HostConfig.Memory", 1),
        ("HostConfig.Memory", -1),
        ("HostConfig.Memory", 0),
        ("HostConfig.Memory", True),
        ("HostConfig.Memory", "1"),
        ("HostConfig.Mounts", [MOUNT | {"ReadOnly": False}]),
        ("HostConfig.Mounts", [MOUNT | {"Source": "night_postgres"}]),
        ("HostConfig.Mounts", [MOUNT | {"Target": "/etc"}]),
        ("HostConfig.Mounts", [MOUNT | {"Type": "bind", "Source": "/"}]),
        ("HostConfig.Mounts", [MOUNT | {"VolumeOptions": {"DriverConfig": {"Options": {"o": "bind", "device": "/"}}}}]),
        ("HostConfig.Mounts", {"Type": "volume"}),
        ("HostConfig.Mounts", [{"Type": "volume", "Target": "/usr", "ReadOnly": True}]),
        ("HostConfig.Mounts", [{"Type": "volume", "ReadOnly": True}]),
        ("HostConfig.Mounts", [{"Type": "volume", "Target": "/world", "ReadOnly": True}]),
        ("HostConfig.LogConfig", {"Type": "syslog", "Config": {"syslog-address": "tcp://10.0.0.1"}}),
        ("HostConfig.LogConfig", {"Type": "json-file", "Config": {"env": "X"}}),
        ("HostConfig.LogConfig", {"Type": "json-file", "Config": {"max-size": "1000000g"}}),
        ("HostConfig.LogConfig", {"Type": "json-file", "Config": {"max-file": "1000"}}),
        ("HostConfig.privileged", True),
        ("HostConfig", None),
        ("hostconfig", {"Privileged": True}),
        ("Image", "postgres"),
        ("Image", "sim:other"),
        ("image", "postgres"),
        ("User", "0"),
        ("Entrypoint", ["/bin/sh"]),
        ("Cmd", ["recsys.cli", "serve"]),
        ("Cmd", "recsys.simulate"),
        ("Cmd", None),
        ("Env", ["LD_PRELOAD=/tmp/x.so"]),
        ("Env", ["RECSYS_SHARD=1\nLD_PRELOAD=x"]),
        ("Labels", {"a": 1}),
        ("Labels", {"com.docker.compose.project": "night"}),
        ("Labels", {"desktop.docker.io/binds/0/Source": "/"}),
        ("Volumes", {"/host": {}}),
        ("WorkingDir", "/tmp"),
        ("OpenStdin", True),
        ("NetworkingConfig", {"EndpointsConfig": {"night_backend": {}}}),
        ("Healthcheck", {"Test": ["CMD", "sh"]}),
        ("StopTimeout", 10_000),
    ],
)  # fmt: skip
def test_a_crafted_body_is_refused(path: str, value: Any) -> None:
    body = json.dumps(changed(path, value)).encode()
    with pytest.raises(RefusedError):
        judge("POST", "/v1.41/containers/create", body, ALLOWED)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"Image": "sim", "Image": "other"}', b"[" * 100_000, "ü".encode("latin-1")]
)
def test_what_is_no_plain_object_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError):
        judge("POST", "/containers/create", body, ALLOWED)


def test_another_label_does_not_replace_the_stacks_own() -> None:
    assert container(changed("Labels", {LABEL: "other"}), ALLOWED)["Labels"] == {LABEL: "night"}


NAME = "nightshift-0a1b2c3d-0123abcd-2026-01-05.1.0"


def test_a_container_is_found_again_by_its_name() -> None:
    made = judge("POST", f"/v1.41/containers/create?name={NAME}", json.dumps(BODY).encode(), ALLOWED)
    assert made.target == f"/v1.41/containers/create?name={NAME}"
    assert judge("GET", f"/v1.41/containers/{NAME}/json", b"", ALLOWED).container == NAME


@pytest.mark.parametrize(
    "name", ["postgres", "", "nightshift-0a1b2c3d", f"{NAME}/../x", f"{NAME}%20", f"x{NAME}", f"{NAME}{'x' * 100}"]
)
def test_a_container_may_not_be_called_otherwise(name: str) -> None:
    with pytest.raises(RefusedError, match="may not be called"):
        judge("POST", f"/containers/create?name={name}", json.dumps(BODY).encode(), ALLOWED)


def test_what_the_operator_asks_for_passes() -> None:
    filters = "%7B%22reference%22%3A+%5B%22sim%22%5D%7D"
    for method, target in [
        ("GET", "/version"), ("GET", "/_ping"), ("HEAD", "/_ping"),
        ("GET", f"/v1.41/images/json?only_ids=0&all=0&filters={filters}"),
        ("POST", f"/v1.41/containers/{ID}/attach?logs=0&stdout=1&stderr=1&stream=1"),
        ("POST", f"/v1.41/containers/{ID}/start"), ("POST", f"/v1.41/containers/{ID}/wait"),
        ("GET", f"/v1.41/containers/{ID}/json"), ("POST", f"/v1.41/containers/{ID}/stop?t=5"),
        ("DELETE", f"/v1.41/containers/{ID}?v=False&link=False&force=True"),
    ]:  # fmt: skip
        forward = judge(method, target, b"", ALLOWED)
        assert forward.method == method
        assert forward.target.partition("?")[0] == target.partition("?")[0]
        assert forward.container == (ID if ID in target else "")
        assert forward.upgrade == ("attach" in target)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/containers/json"), ("GET", "/info"), ("GET", "/events"), ("GET", "/volumes"), ("GET", "/secrets"),
        ("GET", "/containers/postgres/json"), ("POST", "/containers/prune"), ("POST", "/build"),
        ("POST", "/images/create?fromImage=x"),
        ("POST", "/images/load"), ("POST", "/volumes/create"), ("POST", "/networks/create"), ("POST", "/plugins/pull"),
        ("POST", f"/containers/{ID}/exec"), ("POST", f"/exec/{ID}/start"), ("PUT", f"/containers/{ID}/archive?path=/"),
        ("GET", f"/containers/{ID}/archive?path=/"), ("GET", f"/containers/{ID}/export"), ("POST", f"/containers/{ID}/update"),
        ("DELETE", f"/containers/{NAME}"), ("POST", f"/containers/{NAME}/start"),
        ("POST", f"/containers/{ID}/rename?name=x"), ("POST", f"/containers/{ID}/attach?stdin=1&stream=1"),
        ("GET", f"/containers/{ID}/attach/ws"), ("POST", "/session"), ("POST", "/grpc"), ("POST", "/swarm/init"),
        ("POST", "/containers/create?name=postgres"), ("POST", "/containers/create?platform=x"),
        ("GET", "/_ping/../containers/json"), ("GET", "//containers/json"), ("GET", "/%2e%2e/containers/json"),
        ("GET", "http://docker/containers/json"), ("GET", "/_ping#/x"), ("get", "/_ping"), ("GET", "/v1.41/v1.41/_ping"),
        ("GET", "/images/json"), ("GET", "/images/json?filters=%7B%7D"), ("GET", "/images/json?filters={&filters=}"),
        ("GET", f"/containers/{ID}/json?size=1"), ("DELETE", f"/containers/{ID}?link=1"), ("GET", f"/containers/{ID}/top"),
        ("GET", "/_ping\n"), ("GET", f"/containers/{ID}\n/json"),
    ],
)  # fmt: skip
def test_another_request_is_refused(method: str, target: str) -> None:
    with pytest.raises(RefusedError):
        judge(method, target, b"", ALLOWED)


def test_only_a_create_request_has_a_body() -> None:
    with pytest.raises(RefusedError, match="no body"):
        judge("POST", f"/containers/{ID}/start", json.dumps({"Binds": ["/:/host"]}).encode(), ALLOWED)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(place=st.sampled_from(["", "HostConfig."]), name=st.text(min_size=1, max_size=12), value=_JSON)
@pytest.mark.slow
def test_whatever_is_added_is_refused_or_left_out(place: str, name: str, value: Any) -> None:
    if "." in name or name in BODY or name in BODY["HostConfig"]:
        return
    try:
        made = container(changed(place + name, value), ALLOWED)
    except RefusedError:
        return
    assert made == container(BODY, ALLOWED)


@given(seed=st.integers(0, 2**32))
def test_a_spoiled_body_is_refused_or_makes_a_simulation_container(seed: int) -> None:
    chance = random.Random(seed)
    body = bytearray(json.dumps(BODY).encode())
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(body) + 1)
        body[at : at + chance.randint(0, 3)] = bytes(chance.choices(b'{}[]",:-0.9eNa\x00\xff\n', k=chance.randint(0, 3)))
    try:
        forward = judge("POST", "/containers/create", bytes(body), ALLOWED)
    except RefusedError:
        return
    made = json.loads(forward.body)
    assert made["Image"] == "sim"
    assert made["Cmd"][0] == "recsys.simulate"
    assert made["Labels"][LABEL] == "night"
    host = made["HostConfig"]
    assert host["NetworkMode"] == "night_simulation"
    assert 0 < host["Memory"] <= ALLOWED.memory
    assert (host["CapDrop"], host["SecurityOpt"], host["PidsLimit"]) == (["ALL"], ["no-new-privileges"], 256)
    assert all(mount == MOUNT for mount in host.get("Mounts", []))


@given(method=st.sampled_from(["GET", "POST", "DELETE"]), target=st.text(max_size=30))
def test_any_target_is_taken_or_refused(method: str, target: str) -> None:
    with contextlib.suppress(RefusedError):
        assert judge(method, target, b"", ALLOWED).target.startswith("/")
