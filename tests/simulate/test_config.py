"""The original's ``env.yml`` names the service by host and port."""

from pathlib import Path

import pytest

from recsys.simulate.config import read_env
from recsys.simulate.connection import Endpoint


@pytest.mark.parametrize(("host", "url"), [("service", "http://service:5001"), ("::1", "http://[::1]:5001")])
def test_host_and_port_are_a_url(tmp_path: Path, host: str, url: str) -> None:
    (tmp_path / "env.yml").write_text(f"remote_recommender_config: {{host: '{host}', port: 5001}}\n")
    found = read_env(tmp_path / "env.yml").service_url
    assert found == url
    assert found is not None
    assert Endpoint.parse(found) == (host, 5001, "")
