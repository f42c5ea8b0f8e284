"""The pages where the storage is HDFS and Airflow's own connection names the NameNode, in a real api-server on a real HDFS."""

from collections.abc import Iterator
from datetime import date

import pytest

from recsys.night.night import Night
from recsys.night.report import build_refused_report
from recsys.platform.hdfs import Hdfs
from recsys.settings import load_settings
from tests.support.components import free_port
from tests.support.documents import gate, inputs, publish
from tests.support.site import Site, airflow

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

NIGHT = date(2026, 1, 5)
ROOT = "/nightshift-pages"
PATHS = ["/nightshift/nights", f"/nightshift/night/{NIGHT}/report.html"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hdfs: Hdfs) -> Iterator[Site]:
    night = Night(NIGHT, load_settings(storage=f"{hdfs.url}{ROOT}"))
    publish(night.store, NIGHT, gate(passed=False, reason="Worse than popularity."))
    build_refused_report(night)
    publish(night.store, NIGHT, inputs(NIGHT))
    more = {"RECSYS_STORAGE": f"webhdfs://{ROOT}", "RECSYS_HDFS_PATIENCE": "1"}
    with airflow(tmp_path_factory.mktemp("airflow"), "api-server", **more) as site:
        site.wait_until(lambda client: client.call("GET", "/version"))
        yield site


@pytest.fixture(scope="module")
def connect(site: Site, hdfs: Hdfs) -> Iterator[dict[str, object]]:
    """The connection, kept in Airflow's database as a person makes it in the web UI."""
    connection = {"connection_id": "webhdfs_default", "conn_type": "webhdfs", "host": "127.0.0.1", "port": hdfs.ports[1]}
    site.client.call("POST", "/connections", connection)
    yield connection
    site.client.call("DELETE", "/connections/webhdfs_default")


@pytest.mark.parametrize("path", PATHS)
def test_without_a_connection_a_notice_says_so(site: Site, path: str) -> None:
    status, body, _ = site.get(path, site.token())
    assert status == 503, site.log.read_text()[-3000:]
    assert "webhdfs_default" in body


@pytest.mark.parametrize("path", PATHS)
def test_the_connection_leads_to_the_storage(site: Site, connect: dict[str, object], path: str) -> None:
    status, body, _ = site.get(path, site.token())
    assert status == 200, body
    assert str(NIGHT) in body


@pytest.mark.parametrize("change", [{"port": free_port()}, {"port": None}, {"host": "no-such-host.invalid"}, {"host": None}])
def test_with_an_unusable_connection_a_notice_says_so(site: Site, connect: dict[str, object], change: dict[str, object]) -> None:
    site.client.call("PATCH", "/connections/webhdfs_default", connect | change)
    for path in PATHS:
        status, body, _ = site.get(path, site.token())
        assert status == 503, site.log.read_text()[-3000:]
        assert "webhdfs_default" in body
    site.client.call("PATCH", "/connections/webhdfs_default", connect)
