"""The command line: ``recsys COMMAND``. Errors are one line on standard error and an exit status, never a traceback."""

import json
import logging
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from recsys import __version__
from recsys.exceptions import ConflictError, InvalidInputError, RecsysError, UnavailableError
from recsys.schemas import parse_date
from recsys.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Nightshift: retrain, ship and A/B-test a recommender.")
world_app = typer.Typer(no_args_is_help=True, help="The world: tracks, users, embeddings.")
platform_app = typer.Typer(no_args_is_help=True, help="The embedded platform: Valkey, the service, Airflow.")
abtest_app = typer.Typer(no_args_is_help=True, help="Experiments in directories of logs.")
app.add_typer(world_app, name="world")
app.add_typer(abtest_app, name="abtest")
app.add_typer(platform_app, name="platform")

DateOption = Annotated[str, typer.Option("--date", metavar="YYYY-MM-DD", help="Log date.")]
WorldOption = Annotated[Path | None, typer.Option("--world", help="World directory; default RECSYS_WORLD.")]
EmbeddedOption = Annotated[bool, typer.Option("--embedded", help="With a Valkey of its own below RECSYS_VAR.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Entry point of the ``recsys`` program."""
    try:
        app(standalone_mode=True)
    except RecsysError as error:
        print(f"recsys: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


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


@app.command()
def nightly(
    day: DateOption,
    world: WorldOption = None,
    episodes: Annotated[int | None, typer.Option(help="Simulated sessions.")] = None,
    seed: Annotated[int | None, typer.Option(help="Base seed.")] = None,
    promote: Annotated[bool | None, typer.Option(help="Force or forbid promotion.")] = None,
) -> None:
    """Run the night of one log date without Airflow (Redis and the service must be up)."""
    from recsys import nightly as night

    settings = load_settings(world=world, episodes=episodes, seed=seed)
    verdict = night.run(settings, _past(day), run_id=_run_id(), promote_it=promote)
    print(f"{day}: {verdict['verdict']}")
    for reason in verdict["reasons"]:
        print(f"  {reason}")


@app.command()
def traffic(
    day: DateOption,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions to play.")] = 20_000,
    world: WorldOption = None,
) -> None:
    """Play listeners of one log date against what is live; their logs become logs/date=D."""
    from recsys import nightly as night

    counts = night.traffic(load_settings(world=world), _past(day), sessions, run_id=_run_id())
    print(f"{day}: {counts['episodes']} sessions, {counts['next'] + counts['last']} events")


@app.command()
def verify(day: DateOption, as_json: JsonOption = False) -> None:
    """Check a finished night against its manifests, counts and Redis, and print its digest."""
    from recsys.verify import require_finished
    from recsys.verify import verify as check

    log_date = _past(day)
    require_finished(load_settings(), log_date)
    with _redis_of_platform(load_settings()) as settings:
        result = check(settings, log_date)
    if as_json:
        print(json.dumps({"log_date": day, "ok": not result.failures, "digest": result.digest, "failures": result.failures}))
    else:
        for line in result.checks:
            print(f"ok    {line}")
        for line in result.failures:
            print(f"FAIL  {line}")
        print(f"digest {result.digest}")
    if result.failures:
        raise typer.Exit(4)


@app.command()
def explain(
    user: Annotated[int, typer.Argument(min=0, help="User id.")],
    session: Annotated[int, typer.Argument(min=0, help="Session, as in the log.")],
    step: Annotated[int, typer.Argument(min=0, help="Step in the session, from 0.")],
    day: Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Look in the experiment of this date.")] = None,
    directory: Annotated[Path | None, typer.Option("--logs", help="Or in this directory; default: live requests.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say from the log why a track was served."""
    from recsys.explain import explain as look
    from recsys.storage import Storage

    settings = load_settings()
    store = Storage(settings.storage_url)
    if day:
        directory = store.local(f"experiments/date={_past(day)}")
    found = look(store, directory or settings.log_dir / "live", user, session, step)
    print(json.dumps(asdict(found)) if as_json else "\n".join(found.lines()))


@app.command()
def drift(
    day: DateOption,
    sessions: Annotated[int, typer.Option(min=100, help="Sessions to play now.")] = 10_000,
    as_json: JsonOption = False,
) -> None:
    """Compare the sessions of a log date with what the simulator produces now (exit status 1: they have drifted apart)."""
    from recsys.drift import check

    found = check(load_settings(), _past(day), sessions, run_id=_run_id())
    if as_json:
        print(json.dumps(asdict(found) | {"drifted": found.drifted}))
    else:
        print(f"{found.logged_sessions} logged sessions of {day}, {found.simulated_sessions} simulated ones")
        for c in found.comparisons:
            print(
                f"{c.name:<6} mean {c.logged_mean:.3f} logged, {c.simulated_mean:.3f} simulated; distance {c.distance:.4f} "
                f"(p = {c.p_value:.3g}): {'DRIFTED' if c.drifted else 'alike'}"
            )
    if found.drifted:
        raise typer.Exit(1)


@app.command()
def nights(as_json: JsonOption = False) -> None:
    """List every night so far."""
    from recsys.verify import nights as list_nights

    rows = list_nights(load_settings())
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'date':<12}{'verdict':<14}{'sessions':>9}  {'effect, 95 % interval':<30}live")
    for row in rows:
        effect = "-"
        if row["effect_percent"] is not None:
            effect = f"{row['effect_percent']:+.1f} % [{row['ci_low_percent']:+.1f}, {row['ci_high_percent']:+.1f}]"
        print(f"{row['log_date']:<12}{row['verdict']:<14}{row['sessions'] or '-':>9}  {effect:<30}{row['live'] or '-'}")


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

    with _redis(load_settings(world=world), embedded) as settings:
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
    from recsys import catalog, keyspace, publish

    log_date = _past(day) if day else datetime.now(UTC).date()
    with _redis(load_settings(world=world), embedded) as settings:
        tracks = catalog.load_tracks(settings.world).size
        content = publish.read_content(recommendations, top, neighbours, tracks)
        client = keyspace.connect(settings)
        version = publish.publish_version(client, content, log_date)
        print(f"published {version}: {len(content.lists)} users")
        if promote:
            moved, sentence = publish.promote(client, version, log_date, who=_run_id(), why="recsys publish")
            print(sentence)
            if not moved:
                raise typer.Exit(ConflictError.exit_code)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say which components are there and what is missing."""
    from recsys.doctor import examine

    findings = examine(load_settings())
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        for finding in findings:
            print(f"{'ok' if finding.ok else 'missing' if finding.needed else 'absent':<8} {finding.name:<16} {finding.text}")
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


@world_app.command("generate")
def generate(
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to; default RECSYS_WORLD or var/world.")] = None,
    tracks: Annotated[int, typer.Option(min=200, help="Number of tracks.")] = 50_000,
    artists: Annotated[int | None, typer.Option(min=10, help="Number of artists; default 22 % of the tracks.")] = None,
    users: Annotated[int, typer.Option(min=1, help="Number of users.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed.")] = 31337,
    force: Annotated[bool, typer.Option("--force", help="Overwrite another world.")] = False,
) -> None:
    """Write a seeded synthetic world in the original's file formats."""
    from recsys.world import generate as write_world

    target = directory or load_settings().world
    write_world(target, tracks=tracks, artists=artists or round(tracks * 0.22), users=users, seed=seed, force=force)
    print(f"{target}: {tracks} tracks, {users} users")


@world_app.command("check")
def check_world(world: WorldOption = None) -> None:
    """Check the files of a world."""
    from recsys.world import validate

    settings = load_settings(world=world)
    validate(settings.world)
    print(f"{settings.world}: in order")


@abtest_app.command("report")
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


@platform_app.command("run")
def platform_run() -> None:
    """From nothing to a finished night, then stop everything."""
    from recsys import platform

    raise typer.Exit(platform.run(load_settings()))


@platform_app.command("up")
def platform_up() -> None:
    """Start everything and keep the web UI until Ctrl-C."""
    from recsys import platform

    raise typer.Exit(platform.up(load_settings()))


@platform_app.command("down")
def platform_down() -> None:
    """Stop what a platform left running."""
    from recsys import platform

    raise typer.Exit(platform.down(load_settings()))


@contextmanager
def _redis(settings: Settings, embedded: bool) -> Iterator[Settings]:
    """The settings, with an embedded Valkey behind them while the block runs if asked for."""
    if not embedded:
        yield settings
        return
    from recsys.embedded import embedded_valkey

    with embedded_valkey(settings.var / "embedded-valkey") as url:
        # Workers of the service read their settings from the environment.
        os.environ["RECSYS_REDIS_URL"] = url
        yield settings.model_copy(update={"redis_url": SecretStr(url)})


@contextmanager
def _redis_of_platform(settings: Settings) -> Iterator[Settings]:
    """The settings; if Redis is away because the embedded platform is stopped, its Valkey runs while the block does."""
    from recsys import keyspace
    from recsys.embedded import embedded_valkey
    from recsys.platform.processes import read_state

    var = settings.var.resolve()
    try:
        keyspace.connect(settings).close()
    except UnavailableError:
        if not (var / "valkey" / "appendonlydir").exists() or read_state(var):
            raise
    else:
        yield settings
        return
    with embedded_valkey(var / "valkey") as url:
        yield settings.model_copy(update={"redis_url": SecretStr(url)})


def _past(text: str) -> date:
    day = parse_date(text)
    if day > datetime.now(UTC).date():
        raise InvalidInputError(f"log date {text} lies in the future; a log date is over before its night")
    return day


def _run_id() -> str:
    return f"cli-{os.getpid()}-{uuid.uuid4().hex[:8]}"


if __name__ == "__main__":
    main()
