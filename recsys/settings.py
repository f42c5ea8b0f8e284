"""All settings, typed, in one place: ``RECSYS_…`` environment variables over these defaults.

In goes the environment; out comes one frozen :class:`Settings`. Airflow tasks build theirs from connections and Params.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.exceptions import InvalidInputError

#: Where containers get secrets as files, named as the variables are but in small letters: recsys_redis_url, recsys_service_token.
_SECRETS = Path("/run/secrets") if Path("/run/secrets").is_dir() else None
VAR = Path(os.environ.get("RECSYS_VAR", "var"))

S = TypeVar("S", bound=BaseSettings)


class Settings(BaseSettings):
    """Settings of the night, the service and the simulator."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_", frozen=True, extra="ignore", secrets_dir=_SECRETS)

    var: Path = Field(VAR, description="Everything the embedded platform writes stands below this directory.")
    world: Path = Field(VAR / "world", description="Directory with tracks.json, tracks.npy, users.json.")
    storage: str = Field("", description="Storage URL, file://… or webhdfs://…; empty: <var>/storage.")
    service_logs: Path | None = Field(None, description="Where the service writes its logs; empty: <var>/service-logs.")
    redis_url: SecretStr = Field(
        default_factory=lambda: SecretStr(f"redis://127.0.0.1:{os.environ.get('RECSYS_PORT_REDIS', '6380')}/0"),
        description="redis://, rediss:// (TLS) or unix:// URL; unset: the embedded platform's.",
    )
    service_url: str = Field(
        default_factory=lambda: f"http://127.0.0.1:{os.environ.get('RECSYS_PORT_SERVICE', '5000')}",
        pattern="^http://",
        description="Where the simulator finds the service, http://…; unset: the embedded platform's.",
    )
    service_token: SecretStr | None = Field(None, description="Guards preview, batch and admin calls once set.")
    simulation: Literal["process", "docker"] = Field("process", description="How Airflow runs a simulation shard.")

    seed: int = Field(31337, ge=0, lt=2**32, description="Base seed; a night's seed is a hash of it and the log date.")
    window: int = Field(7, ge=2, description="Log dates that a night reads: (D - window, D].")
    episodes: int = Field(20_000, ge=1, description="Simulated sessions of a night.")
    shards: int = Field(2, ge=1, le=64, description="Simulation shards of a night.")
    batch: int = Field(0, ge=0, le=4096, description="Events a call to /batch in a night's simulation; 0: single requests.")
    engine: Literal["duckdb", "spark"] = Field("duckdb", description="Query engine of collection.")
    malformed: float = Field(0.01, ge=0, le=1, description="Share of malformed log lines beyond which collection fails.")
    exploration: float = Field(
        0.1, ge=0, le=1, description="Share of random answers in simulated traffic once a version is live."
    )
    live_exploration: float = Field(0.0, ge=0, le=1, description="Share of random answers to requests without a run id.")
    experiments: Path | None = Field(None, description="YAML file of the live experiment; empty: the original's.")
    model: str = Field("dae", description="Model behind T1: dae, ease, popularity, response, or package.module:Class.")
    dae: Path | None = Field(None, description="JSON file of the autoencoder's hyperparameters; empty: the defaults.")
    session_arm: bool = Field(False, description="Train the session-aware arm, play it as T2 and let it serve what is live.")
    promotion: Path | None = Field(None, description="YAML file of the promotion rule; empty: config/promotion.yml's values.")
    deadline_hours: float = Field(4.0, gt=0, description="Hours after which a night that has not ended is reported as late.")
    experiment_source: Literal["simulate", "live"] = Field(
        "simulate", description="simulate: a night plays sessions; live: its report reads the requests of real listeners."
    )
    live_days: int = Field(7, ge=1, description="Log dates, ending with the night's, that a report of live requests reads.")
    history_ttl: int = Field(86_400, ge=60, description="Seconds that an idle session's history is kept.")

    @cached_property
    def storage_url(self) -> str:
        """URL of the storage root."""
        return self.storage or f"file://{(self.var / 'storage').resolve()}"

    @cached_property
    def log_dir(self) -> Path:
        """Directory of the service's logs; one sub-directory a run."""
        return self.service_logs or self.var / "service-logs"


class HdfsOptions(BaseSettings):
    """How HDFS is reached when the storage is ``webhdfs://``: ``RECSYS_HDFS_…`` variables."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_HDFS_", frozen=True, extra="ignore")

    user: str = Field("", description="Acts as this user; empty: the one in the URL, else the process's own.")
    hosts: str = Field("", description="Hosts to use instead of those that HDFS names: datanode=127.0.0.1,other:9864=host:port.")
    timeout: float = Field(60.0, gt=0, description="Seconds until a silent connection counts as lost.")
    patience: float = Field(60.0, ge=0, description="Seconds during which what may pass is tried again.")

    @cached_property
    def host_map(self) -> dict[str, str]:
        """Host, or host:port, to its replacement.

        >>> HdfsOptions(hosts="datanode=127.0.0.1, other:9864=10.0.0.2:19864").host_map
        {'datanode': '127.0.0.1', 'other:9864': '10.0.0.2:19864'}

        Raises:
            InvalidInputError: an entry is not of the form ``a=b``.
        """
        pairs = [entry.strip().partition("=") for entry in self.hosts.split(",") if entry.strip()]
        if any(not all(pair) for pair in pairs):
            raise InvalidInputError(f"RECSYS_HDFS_HOSTS is {self.hosts!r}: entries must be of the form host=replacement")
        return {name: wanted for name, _, wanted in pairs}


def load_settings(**overrides: object) -> Settings:
    """Read the environment; ``overrides`` win where they are not None.

    Raises:
        InvalidInputError: a value breaks its constraint; the message names variable, value and constraint.
    """
    return read_environment(Settings, {k: v for k, v in overrides.items() if v is not None})


def load_hdfs_options() -> HdfsOptions:
    """Read the environment.

    Raises:
        InvalidInputError: a value breaks its constraint; the message names variable, value and constraint.
    """
    return read_environment(HdfsOptions, {})


def read_environment(kind: type[S], overrides: Mapping[str, Any]) -> S:
    """Settings of a kind; ``overrides`` win over the environment.

    Raises:
        InvalidInputError: a value breaks its constraint; the message names variable, value and constraint.
    """
    try:
        return kind(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        variable = f"{kind.model_config['env_prefix']}{name}".upper()
        raise InvalidInputError(f"setting {name} ({variable}) is {first['input']!r}: {first['msg']}") from None
