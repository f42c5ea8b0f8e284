"""All settings, typed, in one place: ``RECSYS_…`` environment variables over these defaults; an empty one counts as unset.

In goes the environment; out comes one frozen :class:`Settings`. Airflow tasks build theirs from connections and Params. Nothing
else reads these variables; docs/settings.md is generated from what stands here.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys.exceptions import InvalidInputError

PREFIX, HDFS_PREFIX = "RECSYS_", "RECSYS_HDFS_"
#: Where containers get secrets as files, named as the variables are but in small letters: recsys_redis_url, recsys_service_token.
_SECRETS = Path("/run/secrets") if Path("/run/secrets").is_dir() else None

S = TypeVar("S", bound=BaseSettings)


class Settings(BaseSettings):
    """Settings of the night, the service, the simulator and the embedded platform."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", secrets_dir=_SECRETS)

    var: Path = Field(Path("var"), description="Everything the embedded platform writes stands below this directory.")
    world: Path = Field(
        default_factory=lambda data: data["var"] / "world",
        description="Directory with tracks.json and, for the simulator, users.json and tracks.npy; unset: <var>/world.",
    )
    storage: str = Field("", description="Storage URL, file://… or webhdfs://…; empty: <var>/storage.")
    service_logs: Path | None = Field(None, description="Where the service writes its logs; unset: <var>/service-logs.")
    port_service: int = Field(5000, ge=1, le=65535, description="Port of the embedded platform's service on 127.0.0.1.")
    port_redis: int = Field(6380, ge=1, le=65535, description="Port of the embedded platform's Valkey on 127.0.0.1.")
    port_database: int = Field(5433, ge=1, le=65535, description="Port of the embedded platform's PostgreSQL on 127.0.0.1.")
    port_airflow: int = Field(8080, ge=1, le=65535, description="Port of the embedded platform's Airflow UI on 127.0.0.1.")
    redis_url: SecretStr = Field(
        default_factory=lambda data: SecretStr(f"redis://127.0.0.1:{data['port_redis']}/0"),
        description="redis://, rediss:// (TLS) or unix:// URL; unset: what a command runs --embedded on RECSYS_VAR, else the "
        "embedded platform's.",
    )
    service_url: str = Field(
        default_factory=lambda data: f"http://127.0.0.1:{data['port_service']}",
        pattern="^http://",
        description="Where the simulator finds the service, http://…; unset: as with RECSYS_REDIS_URL.",
    )
    service_token: SecretStr | None = Field(None, description="Guards preview, batch and admin calls once set.")

    seed: int = Field(31337, ge=0, lt=2**32, description="Base seed; a night's seed is a hash of it and the log date.")
    window: int = Field(7, ge=2, description="Log dates that a night reads: (D - window, D].")
    episodes: int = Field(20_000, ge=1, description="Simulated sessions of a night.")
    shards: int = Field(2, ge=1, le=64, description="Simulation shards of a night.")
    batch: int = Field(0, ge=0, le=4096, description="Events a call to /batch in a night's simulation; 0: single requests.")
    engine: Literal["duckdb", "spark"] = Field("duckdb", description="Query engine of collection.")
    spark_master: str = Field("local[*]", description="Where the engine spark runs: this process, or a cluster's spark://….")
    malformed: float = Field(0.01, ge=0, le=1, description="Share of malformed log lines beyond which collection fails.")
    exploration: float = Field(
        0.1, ge=0, le=1, description="Share of random answers in simulated traffic once a version is live."
    )
    live_exploration: float = Field(0.0, ge=0, le=1, description="Share of random answers to requests without a run id.")
    newcomers: Literal["session", "contextual", "top100"] = Field(
        "session",
        description="What listeners whom a version does not know are answered from first: session (T2's lists, by the session's "
        "first track), contextual (neighbours of the previous track) or top100; then from what follows in this order.",
    )
    experiments: Path | None = Field(None, description="YAML file of the live experiment; unset: the original's.")
    model: str = Field("dae", description="Model behind T1: dae, ease, popularity, response, or package.module:Class.")
    dae: Path | None = Field(None, description="JSON file of the autoencoder's hyperparameters; unset: the defaults.")
    session_arm: bool = Field(False, description="Train the session-aware arm, play it as T2 and let it serve what is live.")
    neighbours: Literal["vectors", "artist", "sessions"] = Field(
        "vectors",
        description="What a version's neighbours, which C answers from, are made from: vectors of tracks by who liked them; "
        "artist: others of the same artist, at random (StickyArtist); sessions: what was heard to the end in the same sessions.",
    )
    liked: Literal["keep", "leave_out"] = Field(
        "keep",
        description="What a user liked before: keep it in the user's lists, as for music, or leave_out, as for films and goods.",
    )
    gate_users: int = Field(20, ge=1, description="Users who liked something new on the date, below which the gate refuses.")
    promotion: Path | None = Field(None, description="YAML file of the promotion rule; unset: config/promotion.yml's values.")
    rollout: Path | None = Field(
        None,
        description="YAML file of the rollout rule, such as config/rollout.yml: a candidate of real listeners' logs is served to "
        "some of them first; unset: it is promoted at once.",
    )
    rollout_cron: str = Field(
        "0 * * * *", pattern=r"^\S+( \S+){4}$", description="When Airflow looks at a rollout (cron, UTC); every hour by default."
    )
    night_hour: int = Field(2, ge=0, le=23, description="Hour (UTC) at which Airflow begins the night of the day before.")
    deadline_hours: float = Field(4.0, gt=0, description="Hours after which a night that has not ended is reported as late.")
    wait_hours: float = Field(
        2.0, gt=0, description="Hours for which a run waits for another one of its log date; then it is skipped."
    )
    approval: bool = Field(False, description="A night in Airflow asks a person before it promotes; backfills ask nobody.")
    approval_hours: float = Field(
        8.0, gt=0, le=11, description="Hours for which a night waits for that answer; without one the candidate is held."
    )
    experiment_source: Literal["simulate", "live", "none"] = Field(
        "simulate",
        description="simulate: a night plays sessions; live: its report reads the requests of real listeners; none: there is no "
        "experiment, and the gate alone decides.",
    )
    planned_users: int = Field(
        10_000,
        ge=100,
        description="Listeners of the two compared arms at which the sequence of an experiment with real listeners is narrowest "
        "(recsys abtest plan computes it); noted on the experiment's first day, later changes are for the next one.",
    )
    history_ttl: int = Field(86_400, ge=60, description="Seconds that an idle session's history is kept.")

    simulation: Literal["auto", "process", "docker"] = Field(
        "auto",
        description="How Airflow runs a simulation shard: in a local process or in a container. auto: recsys platform takes "
        "containers if a Docker engine has the image or can build it; where no platform decides, processes.",
    )
    simulator_image: str = Field("nightshift-simulator", description="Image in which Docker runs a shard.")
    simulation_network: str = Field("host", description="Docker network of a shard's container.")
    simulation_volumes: str = Field(
        "", description="Docker volumes of a shard's container instead of the world's directory: /path=volume,…."
    )
    traffic_dates: int = Field(
        5, ge=2, le=60, description="Log dates, ending yesterday, that must have traffic at a first start."
    )
    traffic_sessions: int = Field(20_000, ge=1, description="Sessions of traffic collected for each such date that has none.")
    traffic_growth: str = Field(
        "",
        pattern=r"^((users|tracks|retire)=\d+(,(users|tracks|retire)=\d+)*)?$",
        description="Listeners and tracks that arrive, and tracks that are retired, before a log date's simulated traffic: "
        "users=100,tracks=50,retire=5. The world must be writable; empty: it stays as it is.",
    )
    airflow_database: SecretStr = Field(
        SecretStr(""),
        description="Database of the embedded platform's Airflow: an SQLAlchemy URL such as postgresql+psycopg2://…, or sqlite "
        "(a file; no backfills); empty: a PostgreSQL of its own.",
    )
    airflow_parallelism: int = Field(3, ge=1, le=256, description="Tasks of the embedded platform's Airflow at the same time.")
    airflow_holds_torch: bool = Field(
        False,
        description="Whether the scheduler of 'recsys platform up' keeps PyTorch loaded for its tasks: half a GiB of memory "
        "all day, and each night takes eight seconds of CPU less.",
    )
    hadoop: Path | None = Field(
        None, description="Hadoop's jars for an HDFS of one's own; unset: ~/.cache/nightshift, fetched by Maven."
    )

    @cached_property
    def storage_url(self) -> str:
        """URL of the storage root."""
        return self.storage or f"file://{(self.var / 'storage').resolve()}"

    @cached_property
    def log_dir(self) -> Path:
        """Directory of the service's logs; one sub-directory a run."""
        return self.service_logs or self.var / "service-logs"

    @cached_property
    def has_own_database(self) -> bool:
        """Whether the embedded platform runs a PostgreSQL of its own."""
        return not self.airflow_database.get_secret_value()

    @cached_property
    def is_on_sqlite(self) -> bool:
        """Whether the embedded platform's Airflow keeps its state in SQLite, which cannot hold backfills."""
        return self.airflow_database.get_secret_value().startswith("sqlite")

    def platform_ports(self) -> dict[str, int]:
        """Ports of the embedded platform by the variable that changes them."""
        names = ("redis", "service", "airflow", *(["database"] if self.has_own_database else []))
        return {f"{PREFIX}PORT_{name.upper()}": getattr(self, f"port_{name}") for name in names}


class HdfsOptions(BaseSettings):
    """How HDFS is reached when the storage is ``webhdfs://``: ``RECSYS_HDFS_…`` variables."""

    model_config = SettingsConfigDict(env_prefix=HDFS_PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

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
        InvalidInputError: a value breaks its constraint, or a variable is no setting; the message names variable, value and
            constraint, or the nearest setting.
    """
    _check_names()
    return _read_environment(Settings, {k: v for k, v in overrides.items() if v is not None})


def load_hdfs_options() -> HdfsOptions:
    """Read the environment.

    Raises:
        InvalidInputError: a value breaks its constraint; the message names variable, value and constraint.
    """
    return _read_environment(HdfsOptions, {})


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give these settings, those with their default value left out; relative paths become absolute."""
    found = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            found[f"{PREFIX}{name}".upper()] = str(value.resolve() if isinstance(value, Path) else value)
    return found


def variables() -> dict[str, str]:
    """Every setting's variable and what it means."""
    kinds: tuple[tuple[str, type[BaseSettings]], ...] = ((PREFIX, Settings), (HDFS_PREFIX, HdfsOptions))
    return {
        f"{prefix}{name}".upper(): field.description or "" for prefix, kind in kinds for name, field in kind.model_fields.items()
    }


def _check_names() -> None:
    known = variables()
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise InvalidInputError(
                f"{name} is no setting of Nightshift; the nearest is {near} (docs/settings.md lists them all)"
            )


def _read_environment(kind: type[S], overrides: Mapping[str, Any]) -> S:
    try:
        return kind(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        variable = f"{kind.model_config['env_prefix']}{name}".upper()
        raise InvalidInputError(f"setting {name} ({variable}) is {first['input']!r}: {first['msg']}") from None
