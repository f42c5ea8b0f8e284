"""Commands of the online half: run the service, publish lists to it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from recsys.abtest.wording import counted
from recsys.cli.options import EmbeddedOption, WorldOption, beside, past, redis_of, run_id
from recsys.exceptions import ConflictError
from recsys.settings import load_settings

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    world: WorldOption = None,
    embedded: EmbeddedOption = False,
) -> None:
    """Run the recommendation service."""
    from recsys.service.server import serve as run_service

    here = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104 - it is compared only
    with redis_of(load_settings(world=world), embedded, serving=f"http://{here}:{port}") as settings:
        run_service(settings, host, port, workers)


@app.command("publish")
def publish_files(
    recommendations: Annotated[Path, typer.Option(help='A line a user: {"user", "tracks"}.')],
    top: Annotated[Path, typer.Option(help="JSON list: the TOP 100.")],
    neighbours: Annotated[Path | None, typer.Option(help="uint32 [tracks, 20] as .npy; without it C serves the TOP 100.")] = None,
    day: Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Log date; default today (UTC).")] = None,
    world: WorldOption = None,
    embedded: EmbeddedOption = False,
    promote: Annotated[bool, typer.Option(help="Make the version live.")] = True,
) -> None:
    """Publish lists from files as a version, and make it live."""
    from recsys import catalog
    from recsys.storage.store import Storage
    from recsys.versions import keyspace, pointer, publish, restore
    from recsys.versions.content import keep_files, read_content

    log_date = past(day) if day else datetime.now(UTC).date()
    with redis_of(beside(load_settings(world=world)), embedded) as settings:
        content = read_content(recommendations, top, neighbours, catalog.load_tracks(settings.world))
        client = keyspace.connect(settings)
        store, version = Storage(settings.storage_url), content.version(log_date)
        keep_files(store, version, recommendations, top, neighbours)
        publish.publish_version(client, content, log_date)
        print(f"published {version}: {counted(len(content.lists), 'user')}")
        if promote:
            moved, sentence = pointer.move(client, version, log_date, who=run_id(), why="recsys publish")
            if not moved:
                raise ConflictError(sentence)
            print(sentence)
            restore.save(client, store)
