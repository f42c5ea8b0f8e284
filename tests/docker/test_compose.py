"""What the compose file hands to its containers: settings that exist, and those of real listeners to all parts of Airflow."""

import pytest
import yaml

from recsys.rollout.rule import RolloutRule, load_rule
from recsys.settings import load_settings, variables
from tests.support.markdown import ROOT

SERVICES = yaml.safe_load((ROOT / "docker-compose.airflow.yml").read_text())["services"]
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer", "celery-worker")
LIVE = ("RECSYS_EXPERIMENT_SOURCE", "RECSYS_PLANNED_USERS", "RECSYS_ROLLOUT", "RECSYS_ROLLOUT_CRON")


def test_every_setting_in_it_exists() -> None:
    named = {name for service in SERVICES.values() for name in service.get("environment", {}) if name.startswith("RECSYS_")}
    assert named <= set(variables()) | {"RECSYS_TRAFFIC_DATES", "RECSYS_TRAFFIC_SESSIONS"}


def test_what_stands_in_env_about_real_listeners_reaches_airflow_and_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in AIRFLOW:
        assert {name: SERVICES[part]["environment"][name] for name in LIVE} == {name: f"${{{name}:-}}" for name in LIVE}
    default = load_settings()
    for name in LIVE:
        monkeypatch.setenv(name, "")
    assert load_settings() == default


def test_the_images_hold_the_rule() -> None:
    assert "COPY config /opt/nightshift/config" in (ROOT / "docker" / "airflow" / "Dockerfile").read_text()
    assert load_rule(ROOT / "config" / "rollout.yml") == RolloutRule()
