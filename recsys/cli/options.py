"""Options and checks that commands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from recsys.exceptions import InvalidInputError, UnavailableError
from recsys.settings import Settings
from recsys.storage.layout import parse_date

DateOption = Annotated[str, typer.Option("--date", metavar="YYYY-MM-DD", help="Log date.")]
WorldOption = Annotated[Path | None, typer.Option("--world", help="World directory; default RECSYS_WORLD.")]
EmbeddedOption = Annotated[bool, typer.Option("--embedded", help="With what it needs of its own, on the data below RECSYS_VAR.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: No log date is before it, so that windows of days before a log date are dates, too.
FIRST = date(1970, 1, 1)


def beside(settings: Settings) -> Settings:
    """The settings, with the parts of a command that runs --embedded on the same RECSYS_VAR, unless variables name others."""
    if "redis_url" in settings.model_fields_set or not (settings.var / "embedded.json").exists():
        return settings
    from recsys.platform.embedded import address

    found = address(settings.var)
    if found is None:
        return settings
    parts: dict[str, SecretStr | str] = {"redis_url": SecretStr(found.redis_url)}
    if found.service_url and "service_url" not in settings.model_fields_set:
        parts["service_url"] = found.service_url
    return settings.model_copy(update=parts)


@contextmanager
def redis_of(settings: Settings, embedded: bool, *, service: bool = False, serving: str = "") -> Iterator[Settings]:
    """The settings, with a Valkey of their own behind them, on the platform's data, while the block runs if asked for.

    Args:
        service: with a service of their own, too. serving: where the block itself serves.

    Raises:
        ConflictError: the platform or another such command runs.
    """
    if not embedded:
        yield settings
        return
    from recsys.platform.embedded import embedded as parts_of_their_own

    with parts_of_their_own(settings, service=service, serving=serving) as found:
        yield found


@contextmanager
def redis_of_platform(settings: Settings) -> Iterator[Settings]:
    """The settings; if Redis is away because the embedded platform is stopped, its Valkey runs while the block does."""
    from recsys.platform.processes import read_state
    from recsys.versions import keyspace

    settings, var = beside(settings), settings.var.resolve()
    try:
        keyspace.connect(settings).close()
    except UnavailableError:
        if not (var / "valkey" / "appendonlydir").exists() or read_state(var):
            raise
        is_away = True
    else:
        is_away = False
    with redis_of(settings, is_away) as found:
        yield found


def past(text: str) -> date:
    """A log date that is neither in the future nor before there were logs."""
    day = parse_date(text)
    if day < FIRST:
        raise InvalidInputError(f"log date {text} is before {FIRST}; no log is as old")
    if day > datetime.now(UTC).date():
        raise InvalidInputError(f"log date {text} lies in the future; a log date is over before its night")
    return day


def run_id() -> str:
    """Names this invocation in leases and audit trails."""
    from recsys.versions import lease

    return lease.name_of_command()
