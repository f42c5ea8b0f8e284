"""Commands about the storage: what it holds, and what may go."""

from typing import Annotated

import typer

from recsys.exceptions import InvalidInputError
from recsys.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="The storage: list it, clean it.")

LONGEST_DAYS = 36_500


@app.command("list")
def list_dates(prefix: Annotated[str, typer.Argument(help="Such as logs, interactions, reports.")]) -> None:
    """List the published dates of a prefix with their counts."""
    from recsys.storage.store import Storage

    store = Storage(load_settings().storage_url)
    for day in store.dates(prefix):
        manifest = store.manifest(f"{prefix}/date={day}")
        told = ", ".join(f"{name} {count}" for name, count in manifest.counts.items())
        print(f"{day}  {sum(f.bytes for f in manifest.files):>14,} bytes  {told}")


@app.command()
def clean(
    days: Annotated[float, typer.Option(help="Keep what is younger than so many days.")] = 7,
) -> None:
    """Delete old trash and what killed writers have left; nothing published is touched."""
    from recsys.storage.store import Storage

    if not 0 <= days <= LONGEST_DAYS:  # a range of typer lets what is not a number pass
        raise InvalidInputError(f"--days {days} must be a number from 0 to {LONGEST_DAYS}")
    swept = Storage(load_settings().storage_url).sweep(days)
    for path in swept:
        print(f"deleted {path}")
    print(f"{len(swept)} directories deleted")
