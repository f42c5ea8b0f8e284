"""Settings of the embedded platform alone: ports, the traffic of a first start, the simulator's image."""

from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.settings import read_environment


class Options(BaseSettings):
    """``RECSYS_…`` variables that only ``recsys platform`` reads."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_", frozen=True, extra="ignore")

    port_service: int = Field(5000, ge=1, le=65535, description="Port of the service on 127.0.0.1.")
    port_redis: int = Field(6380, ge=1, le=65535, description="Port of Valkey on 127.0.0.1.")
    port_airflow: int = Field(8080, ge=1, le=65535, description="Port of the Airflow UI on 127.0.0.1.")
    traffic_dates: int = Field(5, ge=2, le=60, description="Log dates, ending yesterday, that must have traffic.")
    traffic_sessions: int = Field(20_000, ge=1, description="Sessions of traffic collected for each missing log date.")
    airflow_database: SecretStr = Field(
        SecretStr(""), description="SQLAlchemy URL of Airflow's database, such as postgresql+psycopg2://…; empty: SQLite."
    )
    airflow_parallelism: int = Field(3, ge=1, le=256, description="Airflow tasks that run at the same time.")
    simulation: Literal["auto", "process", "docker"] = Field("auto", description="auto: docker if an engine has the image.")
    simulator_image: str = Field("nightshift-simulator", description="Image that runs a shard under Docker.")

    def ports(self) -> dict[str, int]:
        """Ports by the environment variable that changes them."""
        return {
            "RECSYS_PORT_REDIS": self.port_redis,
            "RECSYS_PORT_SERVICE": self.port_service,
            "RECSYS_PORT_AIRFLOW": self.port_airflow,
        }


def load_options() -> Options:
    """Read the environment.

    Raises:
        InvalidInputError: a value breaks its constraint; the message names variable, value and constraint.
    """
    return read_environment(Options, {})


def yesterday() -> date:
    """The last log date that is over (UTC)."""
    return datetime.now(UTC).date() - timedelta(days=1)
