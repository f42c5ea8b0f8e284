"""Commands about worlds: tracks, users, embeddings."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.abtest.wording import counted
from recsys.cli.options import WorldOption
from recsys.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="The world: tracks, users, embeddings.")


@app.command("generate")
def generate(
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to; default RECSYS_WORLD or var/world.")] = None,
    tracks: Annotated[int, typer.Option(min=200, help="Number of tracks.")] = 50_000,
    artists: Annotated[int | None, typer.Option(min=10, help="Number of artists; default 22 % of the tracks.")] = None,
    users: Annotated[int, typer.Option(min=1, help="Number of users.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 31337,
    force: Annotated[bool, typer.Option("--force", help="Overwrite another world.")] = False,
) -> None:
    """Write a seeded synthetic world in the original's file formats."""
    from recsys.simulate.world import generate as write_world

    target = directory or load_settings().world
    write_world(target, tracks=tracks, artists=artists or round(tracks * 0.22), users=users, seed=seed, force=force)
    print(f"{target}: {counted(tracks, 'track')}, {counted(users, 'user')}")


@app.command("check")
def check_world(world: WorldOption = None) -> None:
    """Check the files of a world."""
    from recsys.simulate.world import validate

    settings = load_settings(world=world)
    validate(settings.world)
    print(f"{settings.world}: in order")
