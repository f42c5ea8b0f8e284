"""The service's link to Redis reads a URL as redis-py does, so that service and tasks talk to the same database, alike."""

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from recsys.service.link import RedisDownError, RedisLink
from recsys.versions import keyspace
from recsys.versions.functions import LIBRARY, Library
from tests.support.components import Valkey, running


def write_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "valkey")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return certificate, secret


async def put(url: str, key: str) -> bool:
    """Set a key through the link; whether it was connected."""
    link = RedisLink(url)
    await link.start()
    try:
        if link.ready:
            await link.call("SET", key, "here")
        return link.ready
    finally:
        await link.stop()


def get(url: str, key: str) -> bytes | None:
    """Read a key with redis-py."""
    return redis.Redis.from_url(url).get(key)


@contextlib.asynccontextmanager
async def encrypting(port: int, certificate: Path, key: Path) -> AsyncIterator[int]:
    """A port that speaks TLS for a server that does not."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, sender = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, sender), copy(upstream, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.real
def test_both_clients_read_a_url_alike(tmp_path: Path) -> None:
    path = tmp_path / "v.sock"
    with running(Valkey(tmp_path, ("--requirepass", "p/w@1", "--unixsocket", str(path)))) as server:
        for url in (
            f"redis://:p%2Fw%401@127.0.0.1:{server.port}/3",
            f"redis://default:p%2Fw%401@127.0.0.1:{server.port}?db=4",
            f"unix://:p%2Fw%401@{path}?db=5",
        ):
            assert asyncio.run(put(url, "link")), url
            assert get(url, "link") == b"here", url


@pytest.mark.real
def test_an_encrypted_connection_asks_for_a_certificate(tmp_path: Path) -> None:
    files = write_certificate(tmp_path)

    async def ask(port: int) -> None:
        async with encrypting(port, *files) as encrypted:
            url = f"rediss://:pw@127.0.0.1:{encrypted}/6"
            known = f"{url}?ssl_ca_certs={files[0]}"
            assert await put(known, "link")
            assert await asyncio.to_thread(get, known, "link") == b"here"
            assert not await put(url, "link")  # nobody vouches for this server, so it gets no password

    with running(Valkey(tmp_path, ("--requirepass", "pw"))) as server:
        asyncio.run(ask(server.port))


@pytest.mark.real
def test_functions_are_there_after_each_connect(valkey: Valkey) -> None:
    other = Library("#!lua name=LIBRARY\nredis.register_function('LIBRARY_one', function() return 1 end)\n")

    async def ask() -> list[object]:
        links = [RedisLink(valkey.url, library) for library in (LIBRARY, other, LIBRARY, other)]
        await asyncio.gather(*[link.start() for link in links])
        try:
            assert [link.ready for link in links] == [True] * 4
            key = keyspace.run_key("none")
            called = links[0].call("FCALL", LIBRARY.function("block"), 3, key, key, key, "release", "", "", "")
            return await asyncio.gather(called, links[1].call("FCALL", other.function("one"), 0))
        finally:
            await asyncio.gather(*[link.stop() for link in links])

    assert asyncio.run(ask()) == [0, 1]


@pytest.mark.real
def test_without_its_functions_it_is_not_ready(valkey: Valkey) -> None:
    async def connect() -> bool:
        link = RedisLink(valkey.url, Library("#!lua name=LIBRARY\nno lua"))
        await link.start()
        await link.stop()
        return link.ready

    assert asyncio.run(connect()) is False


@pytest.mark.real
def test_a_deadline_is_told_by_redis_clock_and_compared_anew_once_one_has_passed(valkey: Valkey) -> None:
    with valkey.client as client:
        now, _ = cast(tuple[int, int], client.time())

    async def ask() -> list[int]:
        link = RedisLink(valkey.url)
        await link.start()
        try:
            first = link.deadline
            words = ("FCALL", LIBRARY.function("events"), 1, "recsys:{0}:lists:", "", 100, 0, (now - 5) * 1000)
            with pytest.raises(RedisDownError, match="LATE"):
                await link.call(*words)
            assert not link.ready
            assert link.trouble.startswith("LATE")
            while not link.ready:
                await asyncio.sleep(0.01)
            return [first, link.deadline]
        finally:
            await link.stop()

    for deadline in asyncio.run(ask()):
        assert now * 1000 + 900 < deadline < now * 1000 + 20_000
