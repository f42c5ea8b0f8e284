"""Commands about experiments in directories of logs."""

from pathlib import Path
from typing import Annotated

import typer

from recsys.exceptions import InvalidInputError
from recsys.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Experiments in directories of logs.")


@app.callback()
def group() -> None:
    """Experiments in directories of logs."""


@app.command("report")
def abtest_report(
    logs: Annotated[Path, typer.Option(help="Directory of logs, one JSON object a line.")],
    experiment: Annotated[str, typer.Option(help="Name of the experiment in the logs.")],
    control: Annotated[str, typer.Option(help="Name of the control arm.")],
    out: Annotated[Path, typer.Option(help="Where report.html, report.json and the pictures go.")],
    live: Annotated[str | None, typer.Option(help="Arm that the treatment must not be worse than.")] = None,
) -> None:
    """Analyse any directory of logs in the original's format and write the report."""
    from recsys.abtest.report import analyse

    if not logs.is_dir():
        raise InvalidInputError(f"logs {logs} is not a directory")
    settings = load_settings()
    document = analyse(logs, experiment, control, live=live, margin=settings.margin, out=out)
    print(f"{out / 'report.html'}: {document['decision']['verdict']}")
    for reason in document["decision"]["reasons"]:
        print(f"  {reason}")
