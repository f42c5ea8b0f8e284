"""Commands about the rollout: a candidate that a share of the listeners gets instead of what is live."""

import getpass
import json
from dataclasses import asdict
from typing import Annotated

import typer

from recsys.cli.live import WhyOption
from recsys.cli.options import JsonOption, beside
from recsys.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Rollouts: a candidate is served to a growing share of real listeners.")

VersionArgument = Annotated[str, typer.Argument(help="Candidate.")]


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Who gets which candidate, since when and why."""
    from recsys.versions import keyspace, rollout

    now = rollout.read(keyspace.connect(beside(load_settings())))
    if as_json:
        print(json.dumps(asdict(now), indent=1, default=lambda moment: moment.isoformat(timespec="seconds")))
        return
    print(now.told)
    if now.is_under_way:
        print(f"compared with {now.live}; stage {now.stage}, experiment {now.experiment}; by {now.who}: {now.reason}")


@app.command()
def begin(version: VersionArgument, why: WhyOption) -> None:
    """Serve a version to the first stage's share of listeners."""
    from recsys.night import rollout
    from recsys.versions import keyspace

    settings = beside(load_settings())
    print(rollout.begin(settings, keyspace.connect(settings), version, who=_person(), why=why))


@app.command()
def look(
    at: Annotated[str | None, typer.Option("--at", metavar="YYYY-MM-DDTHH:MM", help="See the logs up to this time, UTC.")] = None,
) -> None:
    """Look at how listeners fare with the candidate, and do what follows; the DAG rollout does so every hour."""
    from recsys.night import rollout
    from recsys.versions import keyspace, lease

    settings, moment = beside(load_settings()), rollout.until(at)
    print(rollout.look_and_act(settings, keyspace.connect(settings), moment, who=lease.name_of_command())[1])


@app.command()
def advance(share: Annotated[float, typer.Argument(help="Percent of listeners, of one of the stages.")], why: WhyOption) -> None:
    """Serve the candidate to a larger share of listeners; at 100 it becomes live."""
    from recsys.night import rollout
    from recsys.versions import keyspace

    settings = beside(load_settings())
    print(rollout.advance(settings, keyspace.connect(settings), share, who=_person(), why=why))


@app.command()
def abort(
    why: WhyOption,
    version: Annotated[str | None, typer.Argument(help="Candidate; without one: whichever is under way.")] = None,
) -> None:
    """Serve nobody the candidate any more; it is blocked until it is released."""
    from recsys.night import rollout
    from recsys.versions import keyspace

    settings = beside(load_settings())
    print(rollout.abort(settings, keyspace.connect(settings), version, who=_person(), why=why))


def _person() -> str:
    return f"person {getpass.getuser()}"
