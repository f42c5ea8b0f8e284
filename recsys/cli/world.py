"""Commands about worlds: tracks, users, embeddings."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys.abtest.wording import counted
from recsys.cli.options import WorldOption
from recsys.settings import load_settings

if TYPE_CHECKING:
    from recsys.simulate.growth_record import GrowthStep

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
    growth = write_world(target, tracks=tracks, artists=artists or round(tracks * 0.22), users=users, seed=seed, force=force)
    print(f"{target}: {counted(tracks, 'track')}, {counted(users, 'user')}")
    if growth:
        print(f"It is there, and {_grown(growth)}; --force would overwrite that.")


@app.command("grow")
def grow(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="The world; default RECSYS_WORLD or var/world.")] = None,
    users: Annotated[int, typer.Option(help="Listeners to append.")] = 0,
    tracks: Annotated[int, typer.Option(help="Tracks to append.")] = 0,
    retire: Annotated[int, typer.Option(help="Available tracks to retire.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed; default RECSYS_SEED.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be done.")] = False,
) -> None:
    """Append listeners and tracks to a world and retire some of its tracks; nobody and nothing gets another number."""
    from recsys.simulate.growth import Growth
    from recsys.simulate.growth import grow as let_grow

    settings = load_settings()
    target = directory or settings.world
    wanted = Growth(users, tracks, retire)
    step = let_grow(target, wanted, seed=settings.seed if seed is None else seed, dry_run=dry_run)
    print(
        f"{target} {'would have' if dry_run else 'has'} {counted(step.users_after, 'user')} ({step.users:,} new) and "
        f"{counted(step.tracks_after, 'track')} ({step.tracks:,} new, {len(step.retired):,} retired by this)"
    )


@app.command("check")
def check_world(world: WorldOption = None) -> None:
    """Check the files of a world."""
    from recsys.simulate.world import validate

    settings = load_settings(world=world)
    record = validate(settings.world)
    print(f"{settings.world}: in order" + (f"; it {_grown(record.growth)}" if record.growth else ""))
    if record.pending:
        print("Its last growth was interrupted; the next 'recsys world grow' finishes it.")


def _grown(growth: Sequence["GrowthStep"]) -> str:
    last = growth[-1]
    sizes = f"{counted(last.users_after, 'user')} and {counted(last.tracks_after, 'track')}"
    return f"has grown ({counted(len(growth), 'step')}) to {sizes}"
