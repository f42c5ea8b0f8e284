"""The command that says what a model is worth."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.options import JsonOption
from recsys.settings import load_settings

app = typer.Typer()


@app.command("score")
def score_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="package.module:Class, or dae, ease, popularity, response.")],
    quick: Annotated[bool, typer.Option("--quick", help="Small worlds, and no public data.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where score.html and score.json go; default RECSYS_VAR/score/MODEL.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory with hetrec-user-artists.tsv (HetRec 2011).")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing: ml-100k only if it is there.")] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=10**6, metavar="SECONDS", help="Seconds that a model may take with one data set.")
    ] = 600,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Use nothing that earlier scores have kept.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a model to standard worlds and public data, play it against the baselines, and write one page."""
    from recsys.models.base import create, label
    from recsys.score.page import told, write_page
    from recsys.score.score import Asked, score
    from recsys.score.worlds import FULL, QUICK

    settings = load_settings()
    create(model)
    directory = out or settings.var / "score" / label(model)
    directory.mkdir(parents=True, exist_ok=True)
    size, public = (QUICK, False) if quick else (FULL, True)
    found = score(settings, Asked(model, size, public=public, data=data, fetch=not offline, limit=limit, rebuild=rebuild))
    page = write_page(directory, found)
    print(found.to_json() if as_json else f"{told(found)}\n{page}")
