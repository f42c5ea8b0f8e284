"""The command that makes logs of anybody's data."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recsys.abtest.wording import counted
from recsys.cli.options import JsonOption, WorldOption
from recsys.exceptions import InvalidInputError
from recsys.imports.request import SESSION_GAP, Asked, parse_dates
from recsys.settings import load_settings

if TYPE_CHECKING:
    from recsys.imports.steps import Card

app = typer.Typer()

_COLUMN = "COLUMN"


@app.command("import")
def import_files(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="CSV, TSV and the like, JSON lines, both also gzipped, or Parquet.")
    ],
    user: Annotated[
        str | None, typer.Option(metavar=_COLUMN, help="Who listened; by name, or by number from 1 where no header is.")
    ] = None,
    track: Annotated[str | None, typer.Option(metavar=_COLUMN, help="The track's id, as its owner calls it.")] = None,
    time: Annotated[str | None, typer.Option(metavar=_COLUMN, help="ISO 8601 (UTC without a zone), or epoch s or ms.")] = None,
    played: Annotated[str | None, typer.Option(metavar=_COLUMN, help="Share of the track that was heard, 0 to 1.")] = None,
    rating: Annotated[str | None, typer.Option(metavar=_COLUMN, help="A rating; with --liked.")] = None,
    liked: Annotated[float | None, typer.Option(metavar="VALUE", help="The least rating that counts as liked.")] = None,
    artist: Annotated[str | None, typer.Option(metavar=_COLUMN, help="The track's artist.")] = None,
    title: Annotated[str | None, typer.Option(metavar=_COLUMN, help="The track's title.")] = None,
    tracks: Annotated[Path | None, typer.Option(metavar="FILE", help="A table of tracks: id, artist, title.")] = None,
    session_gap: Annotated[
        int | None, typer.Option(metavar="MINUTES", help=f"A longer pause ends a session; default {SESSION_GAP}.")
    ] = None,
    dates: Annotated[str | None, typer.Option(metavar="FROM..TO", help="Spread rows without a time over these dates.")] = None,
    form: Annotated[
        Literal["table", "botify"], typer.Option("--format", help="botify: logs of the original server, without other options.")
    ] = "table",
    world: WorldOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make logs/date=D of tables of who listened to what; their tracks are appended to the world's catalogue."""
    from recsys.imports.steps import import_botify, import_tables

    settings = load_settings(world=world)
    columns: dict[str, object] = {
        "--user": user,
        "--track": track,
        "--time": time,
        "--played": played,
        "--rating": rating,
        "--liked": liked,
    }
    columns |= {"--artist": artist, "--title": title, "--tracks": tracks, "--session-gap": session_gap, "--dates": dates}
    if form == "botify":
        given = [name for name, value in columns.items() if value is not None]
        if given:
            raise InvalidInputError(f"{given[0]} has no meaning with --format botify, whose lines have fields of their own")
        card = import_botify(settings, files, dry_run=dry_run)
    else:
        if user is None:
            raise InvalidInputError("no column tells the user; give --user COLUMN")
        span = parse_dates(dates) if dates else None
        gap = SESSION_GAP if session_gap is None else session_gap
        asked = Asked(tuple(files), user, track, time, played, rating, liked, artist, title, tracks, gap=gap, dates=span)
        card = import_tables(settings, asked, dry_run=dry_run)
    print(json.dumps(asdict(card), indent=1) if as_json else _told(card, settings.storage_url))


def _told(card: "Card", storage: str) -> str:
    """The card as sentences."""
    who = f"{counted(card.users, 'user')} in {counted(card.sessions, 'session')}"
    what = f"{counted(card.tracks, 'track')} ({card.new_tracks:,} new, {card.catalogue:,} in the catalogue)"
    lines = [f"{counted(card.rows, 'row')}: {counted(card.plays, 'play')} ({card.liked:,} liked) of {who}, {what}"]
    if card.left_out:
        reasons = ", ".join(f"{count} {why}" for why, count in card.left_out.items())
        lines.append(f"left out: {reasons}; see {card.quarantine}")
    span = card.dates[0] if len(card.dates) == 1 else f"{card.dates[0]} to {card.dates[-1]}"
    done = "would be written" if card.dry_run else "written"
    state = f"{card.written} {done}, {len(card.dates) - card.written} already there" if card.written else "already there"
    lines.append(f"{counted(len(card.dates), 'log date')} from {span} in {storage}: {state} ({card.seconds:.1f} s)")
    return "\n".join(lines)
