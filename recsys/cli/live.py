"""Commands about what is live: promote, roll back, hold, release, the audit trail, restoring."""

import getpass
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import redis
import typer

from recsys.cli.options import JsonOption, beside
from recsys.settings import load_settings

app = typer.Typer()

WhyOption = Annotated[str, typer.Option("--why", help="Reason, for the audit trail.")]
VersionArgument = Annotated[str | None, typer.Argument(help="Version; without one: all promotions.")]


def _act(action: Callable[[redis.Redis, str], str]) -> None:
    """Do something to the pointer as the current user, and copy the outcome to the storage."""
    from recsys.storage.store import Storage
    from recsys.versions import keyspace, restore

    settings = beside(load_settings())
    client, store = keyspace.connect(settings), Storage(settings.storage_url)
    store.require_writable()
    print(action(client, f"person {getpass.getuser()}"))
    restore.save(client, store)


@app.command("promote")
def make_live(version: Annotated[str, typer.Argument(help="Version to make live.")], why: WhyOption) -> None:
    """Make a version live, whatever its log date."""
    from recsys.versions import pointer

    _act(lambda client, who: pointer.make_live(client, version, who=who, why=why))


@app.command()
def rollback(why: WhyOption) -> None:
    """Go back to the previous live version; the one that is left is blocked until it is released."""
    from recsys.versions import pointer

    _act(lambda client, who: pointer.rollback(client, who=who, why=why))


@app.command()
def hold(why: WhyOption, version: VersionArgument = None) -> None:
    """Keep a version, or all, from being promoted."""
    from recsys.versions import pointer

    _act(lambda client, who: pointer.hold(client, version or pointer.EVERY, who=who, why=why))


@app.command()
def release(why: WhyOption, version: VersionArgument = None) -> None:
    """End a hold, of a version or of all."""
    from recsys.versions import pointer

    _act(lambda client, who: pointer.release(client, version or pointer.EVERY, who=who, why=why))


@app.command("restore-live")
def restore_live() -> None:
    """Rebuild in Redis what is live, from files."""
    from recsys.storage.store import Storage
    from recsys.versions import keyspace, restore

    settings = beside(load_settings())
    client = keyspace.connect(settings)
    print(restore.restore(client, Storage(settings.storage_url), who=f"person {getpass.getuser()}"))


@app.command()
def audit(as_json: JsonOption = False) -> None:
    """Who moved, held or released what, when and why."""
    from recsys.versions import keyspace, pointer

    entries = pointer.audit(keyspace.connect(beside(load_settings())))
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1))
        return
    for entry in entries:
        print(f"{entry.at}  {entry.action:<9} {entry.source or '-'} -> {entry.to}  by {entry.who}: {entry.why}")
