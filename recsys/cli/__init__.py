"""The command line: ``recsys COMMAND``. Errors are one line on standard error and an exit status, never a traceback.

A module here holds the commands of one subject; each is a thin call into the package.
"""

import io
import logging
import sys
from typing import Annotated

import typer

from recsys import __version__
from recsys.cli import abtest, failures, imports, live, logs, night, online, platform, rollout, score, settings, storage, world
from recsys.exceptions import RecsysError, Stopped, stopped_by_signals

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Nightshift: retrain, ship and A/B-test a recommender.")
app.add_typer(imports.app)
app.add_typer(night.app)
app.add_typer(online.app)
app.add_typer(live.app)
app.add_typer(score.app)
app.command()(platform.doctor)
app.command()(settings.settings)
app.add_typer(rollout.app, name="rollout")
app.add_typer(world.app, name="world")
app.add_typer(abtest.app, name="abtest")
app.add_typer(logs.app, name="logs")
app.add_typer(storage.app, name="storage")
app.add_typer(platform.app, name="platform")


def main() -> None:
    """Entry point of the ``recsys`` program."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where text is ASCII, as LC_ALL=C may have it, other signs are told by their codes.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # A signal unwinds the command, so that whatever it has started or taken ends with it.
        with stopped_by_signals(), failures.told():
            failures.require_text(sys.argv)
            app(standalone_mode=True)
    except RecsysError as error:
        print(f"recsys: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Stopped as stopped:
        sys.exit(stopped.exit_code)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Nightshift."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    if version:
        print(__version__)
        raise typer.Exit
