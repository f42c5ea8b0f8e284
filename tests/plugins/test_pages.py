"""The pages in a real Airflow: its api-server and dag-processor, a real browser with a logged-in user, and strangers."""

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from recsys.exceptions import UnavailableError
from recsys.experiments import Arm, Experiment
from recsys.night.report import build_refused_report, build_report
from recsys.platform import components
from recsys.platform.client import AirflowClient
from recsys.settings import Settings
from tests.support.browser import chromium, framed_text, log_in
from tests.support.components import free_port
from tests.support.documents import experiment, gate, inputs, night_of, publish, verdict
from tests.support.traffic import records

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

DAG, RUN = "nightly_recommender", "run__2026-01-05__a"
NIGHT, REFUSED, UNFINISHED = date(2026, 1, 5), date(2026, 1, 4), date(2026, 1, 6)
VERSION = "2026-01-05-0a1b2c3d"
DESIGN = Experiment("DAE_VS_CONTEXTUAL", (Arm("C", "contextual"), Arm("T1", "dae", VERSION)), salt=str(NIGHT))


def nights(root: Path) -> None:
    """A promoted night, a refused one and one that has only begun."""
    night, refused = night_of(root, NIGHT), night_of(root, REFUSED)
    experiment(night, DESIGN, records(DESIGN, users=500, sessions=2000, lift={"T1": 1.6}))
    build_report(night)
    publish(refused.store, REFUSED, gate(passed=False, reason="Worse than popularity."))
    build_refused_report(refused)
    publish(night.store, NIGHT, verdict("promoted", VERSION, reason="better"))
    publish(night.store, REFUSED, verdict("gate_refused", "", reason="Worse than popularity."))
    for day in (NIGHT, REFUSED, UNFINISHED):
        publish(night.store, day, inputs(day))


@dataclass
class Site:
    """A running Airflow: address, password, and where screenshots go."""

    url: str
    password: str
    screenshots: Path

    def get(self, path: str, token: str | None = None) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers of a GET whose path is sent as it is."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=30) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), dict(error.headers)

    def token(self) -> str:
        """A token of the user, as the REST API gives it."""
        body = json.dumps({"username": components.USER, "password": self.password}).encode()
        request = urllib.request.Request(f"{self.url}/auth/token", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.loads(answer.read())["access_token"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("airflow")
    nights(root)
    ports = {"port_airflow": free_port(), "port_redis": free_port(), "port_service": free_port()}
    settings = components.own_settings(Settings(var=root / "var", world=root / "world", **ports), "process")
    environment = components.environment(settings, scheduled=False)
    url = f"http://{components.HOST}:{settings.port_airflow}"
    screenshots = Path(os.environ.get("SCREENSHOTS", root / "screenshots"))
    screenshots.mkdir(parents=True, exist_ok=True)
    with (root / "airflow.log").open("w") as log, contextlib.ExitStack() as stack:
        subprocess.run(components.airflow_words("db", "migrate"), env=environment, check=True, stdout=log, stderr=log)
        for part in ("api-server", "dag-processor"):
            process = subprocess.Popen(
                components.airflow_words(part), env=environment, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(end, process)
        password = components.load_secrets(settings.var).password
        client = AirflowClient(url, components.USER, password)
        wait_for_dag(client, root / "airflow.log")
        client.trigger(DAG, RUN, {"log_date": str(NIGHT)})
        client.trigger(DAG, "unfinished", {"log_date": str(UNFINISHED)})
        yield Site(url, password, screenshots)


def end(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_dag(client: AirflowClient, log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with contextlib.suppress(UnavailableError):
            if client.has_dag(DAG):
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-4000:])


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        log_in(driver, site.url, components.USER, site.password)
        yield driver


def test_the_run_page_has_a_tab_with_the_report(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/dags/{DAG}/runs/{RUN}")
    tab = WebDriverWait(browser, 60).until(lambda d: d.find_elements(By.PARTIAL_LINK_TEXT, "A/B report"))[0]
    tab.click()
    text = framed_text(browser, "Better: listeners stay")
    assert VERSION in text
    browser.switch_to.default_content()
    browser.save_screenshot(str(site.screenshots / "airflow-report.png"))


def test_the_navigation_leads_to_the_nights(site: Site, browser: Chrome) -> None:
    browser.get(site.url)
    entry = WebDriverWait(browser, 60).until(lambda d: d.find_elements(By.CSS_SELECTOR, 'a[href$="/plugin/nights"]'))[0]
    entry.click()
    text = framed_text(browser, "Nights")
    assert VERSION in text
    days = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "tbody th")]
    assert days == [str(UNFINISHED), str(NIGHT), str(REFUSED)]
    assert text.count("Report") >= 2
    browser.switch_to.default_content()
    browser.save_screenshot(str(site.screenshots / "airflow-nights.png"))
    framed_text(browser, "Nights")
    browser.find_element(By.CSS_SELECTOR, f'a[aria-label="Report of {NIGHT}"]').click()
    framed_text(browser, "Better: listeners stay")


PATHS = ["/nightshift/nights", f"/nightshift/night/{NIGHT}/report.html", f"/nightshift/run/{DAG}/{RUN}"]


@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_sees_nothing(site: Site, path: str) -> None:
    status, body, _ = site.get(path)
    assert status == 401
    assert "Better" not in body
    assert site.get(path, "not.a.token")[0] in (401, 403)
    status, _, headers = site.get(path, site.token())
    assert status == 200
    assert "frame-ancestors 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        f"/nightshift/run/{DAG}/../../x",
        f"/nightshift/run/{DAG}/..%2F..%2Fx",
        f"/nightshift/run/{DAG}/%2e%2e/%2e%2e/x",
        f"/nightshift/run/{DAG}/no-such-run",
        f"/nightshift/run/{DAG}/unfinished",
        "/nightshift/run/collect_traffic/x",
        "/nightshift/run/..%2F..%2Fetc/passwd",
        "/nightshift/night/..%2F..%2Fetc/report.html",
        "/nightshift/night/2026-02-30/report.html",
        "/nightshift/night/2026-01-06/report.html",
        f"/nightshift/night/{NIGHT}/..%2Fmanifest.json",
        f"/nightshift/night/{NIGHT}/manifest.json",
        f"/nightshift/night/{NIGHT}%00/report.html",
    ],
)
def test_a_strange_path_is_refused(site: Site, path: str) -> None:
    status, body, _ = site.get(path, site.token())
    assert 400 <= status < 500, (status, body[:300])
    assert "root:" not in body


def test_the_report_is_fetched_as_json(site: Site) -> None:
    status, body, headers = site.get(f"/nightshift/night/{NIGHT}/report.json", site.token())
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["log_date"] == str(NIGHT)
