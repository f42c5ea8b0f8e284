"""Commands about request logs: move them to where a team keeps them, and back; take a log date away."""

import getpass
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys import urls
from recsys.abtest.wording import counted
from recsys.cli.options import past, redis_of_platform, run_id
from recsys.exceptions import ConflictError, CorruptDataError, InvalidInputError
from recsys.schemas import ShardResult
from recsys.settings import Settings, load_hdfs_options, load_settings
from recsys.storage.layout import plain_user

if TYPE_CHECKING:
    from recsys.storage.store import Storage

app = typer.Typer(no_args_is_help=True, help="Request logs: upload them, pull them, remove a log date.")

UserOption = Annotated[str | None, typer.Option("--user", help="Whose directory; default RECSYS_HDFS_USER, or you.")]
SourceOption = Annotated[Path | None, typer.Option("--source", help="The service's logs; default RECSYS_SERVICE_LOGS.")]
ResultsOption = Annotated[
    Path | None, typer.Option("--results", help="Last output lines of simulation shards: only their runs, and counts must agree.")
]
CleanupOption = Annotated[bool, typer.Option("--cleanup", help="Remove the local files once they have been verified.")]
EchoOption = Annotated[bool, typer.Option("--echo", help="Tell every file.")]


@app.command()
def upload(
    directory: Annotated[str, typer.Argument(help="Directory below /user/<user> of the storage.")],
    user: UserOption = None,
    source: SourceOption = None,
    results: ResultsOption = None,
    cleanup: CleanupOption = False,
    echo: EchoOption = False,
) -> None:
    """Put the service's logs into /user/USER/DIRECTORY of HDFS (or below the root of a file:// storage)."""
    from recsys.logs.upload import publish_files

    settings = load_settings()
    store, name = _place(settings, user, directory)
    counts = publish_files(
        store, source or settings.log_dir, name, only=_read_results(results), cleanup=cleanup, tell=print if echo else _quiet
    )
    events, repeated = counted(counts["next"] + counts["last"], "event"), counted(counts["repeated"], "repeated line")
    print(f"{store.path(name)}: {events}, {repeated}")


@app.command()
def pull(
    target: Annotated[Path, typer.Argument(help="Local directory to make.")],
    uploaded: Annotated[str | None, typer.Option(help="Take /user/<user>/UPLOADED; default: the service's own logs.")] = None,
    user: UserOption = None,
    source: SourceOption = None,
    results: ResultsOption = None,
    cleanup: CleanupOption = False,
    echo: EchoOption = False,
) -> None:
    """Put logs into a local directory: the service's, or those that were uploaded."""
    from recsys.logs.upload import publish_files
    from recsys.storage.store import Storage

    settings = load_settings()
    local = Storage(f"file://{target.resolve().parent}")
    name, tell = target.resolve().name, print if echo else _quiet
    if target.exists() and not local.is_complete(name) and (not target.is_dir() or any(target.iterdir())):
        raise ConflictError(f"{target} holds something that was not pulled; name another directory")
    if uploaded is None:
        publish_files(local, source or settings.log_dir, name, only=_read_results(results), cleanup=cleanup, tell=tell)
    else:
        if cleanup or results or source:
            raise InvalidInputError("--cleanup, --results and --source are about the service's logs, not about --uploaded")
        _copy_uploaded(*_place(settings, user, uploaded), local, name, tell)
    print(f"{target}: {counted(sum(f.bytes for f in local.manifest(name).files), 'byte')}")


@app.command("remove")
def remove_date(
    day: Annotated[str, typer.Argument(metavar="YYYY-MM-DD", help="Log date.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it is.")] = False,
) -> None:
    """Move a log date, imported ones too, to the storage's trash; nights that have read it stay as they are."""
    from recsys.logs.removal import describe, remove
    from recsys.storage.store import Storage
    from recsys.versions import keyspace

    settings, log_date = load_settings(), past(day)
    store = Storage(settings.storage_url)
    print(describe(store, log_date))
    if dry_run:
        return
    with redis_of_platform(settings) as found:
        remove(store, keyspace.connect(found), log_date, window=found.window, run=run_id())
    print(f"it is in {store.path('.trash')} now, until 'recsys storage clean' deletes it")


def _copy_uploaded(store: "Storage", uploaded: str, local: "Storage", name: str, tell: Callable[[str], None]) -> None:
    manifest = store.manifest(uploaded)
    if local.is_complete(name) and local.manifest(name).checksum != manifest.checksum:
        raise ConflictError(f"{local.path(name)} holds other logs; name another directory")
    copy = store.local(uploaded)
    with local.stage(name, manifest.counts) as staging:
        for file in manifest.files:
            shutil.copyfile(copy / file.name, staging / file.name)
            tell(f"{uploaded}/{file.name} -> {local.path(name)}/{file.name} ({file.bytes} bytes)")


def _place(settings: Settings, user: str | None, directory: str) -> "tuple[Storage, str]":
    """The store and the name in it of a user's directory."""
    from recsys.storage.store import Storage

    who = plain_user(user or load_hdfs_options().user or getpass.getuser())
    parts = urls.split(settings.storage_url, "storage")
    if parts.scheme == "webhdfs" and parts.hostname:
        store = Storage(f"webhdfs://{urls.authority(parts.hostname, parts.port or 9870, who)}/")
    else:
        store = Storage(settings.storage_url)
    name = f"user/{who}/{directory}"
    store.path(name)
    return store, name


def _read_results(path: Path | None) -> list[ShardResult]:
    if path is None:
        return []
    if not path.is_file():
        raise InvalidInputError(f"results {path} is no file; give the last output lines of the shards")
    try:
        return [ShardResult.from_json(line) for line in path.read_bytes().splitlines() if line.startswith(b"{")]
    except (OSError, CorruptDataError) as error:
        raise InvalidInputError(f"results {path} must hold the last output line of every shard: {error}") from None


def _quiet(_text: str) -> None:
    pass
