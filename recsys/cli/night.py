"""Commands about nights: run one, play its traffic, check it, explain what it logged."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recsys.abtest.wording import counted
from recsys.cli.options import (
    DateOption,
    EmbeddedOption,
    JsonOption,
    WorldOption,
    beside,
    past,
    redis_of,
    redis_of_platform,
    run_id,
)
from recsys.settings import load_settings

app = typer.Typer()


@app.command()
def nightly(
    day: DateOption,
    world: WorldOption = None,
    episodes: Annotated[int | None, typer.Option(help="Simulated sessions.")] = None,
    seed: Annotated[int | None, typer.Option(help="Base seed.")] = None,
    promote: Annotated[bool | None, typer.Option(help="Force or forbid promotion.")] = None,
    backfill: Annotated[bool, typer.Option("--backfill", help="Play C and T1 only, and hold.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Use nothing of an earlier attempt.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the night would do.")] = False,
    embedded: EmbeddedOption = False,
) -> None:
    """Run the night of one log date without Airflow (Redis and the service must be up, or --embedded)."""
    from recsys.night import steps
    from recsys.night.dry_run import dry_run as look_ahead
    from recsys.night.night import Night

    settings = beside(load_settings(world=world, episodes=episodes, seed=seed))
    if dry_run:
        with redis_of(settings, embedded) as settings:
            for name, value in look_ahead(Night(past(day), settings), backfill=backfill).items():
                print(f"{name}: {value}")
        return
    with redis_of(settings, embedded, service=True) as settings:
        night = Night(past(day), settings)
        verdict = steps.run(night, run_id=run_id(), wanted=promote, backfill=backfill, rebuild=rebuild)
    print(f"{day}: {verdict.verdict}")
    for reason in verdict.reasons:
        print(f"  {reason}")
    print(f"report: {night.store.path(night.report)}/report.html")


@app.command()
def traffic(
    day: DateOption,
    sessions: Annotated[int | None, typer.Option(min=1, help="Sessions; default 20,000, or 1,000,000 for a data set.")] = None,
    world: WorldOption = None,
    dataset: Annotated[bool, typer.Option("--dataset", help="Over D-1 and D, exported to datasets/date=D.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Play what is there already, and replace it.")] = False,
    embedded: EmbeddedOption = False,
) -> None:
    """Play listeners of one log date against what is live; their logs become logs/date=D."""
    from recsys.night import dataset as datasets
    from recsys.night import traffic as listeners
    from recsys.night.night import Night

    with redis_of(beside(load_settings(world=world)), embedded, service=True) as settings:
        night = Night(past(day), settings)
        if dataset:
            print(datasets.collect(night, sessions or datasets.SESSIONS, run=run_id(), rebuild=rebuild).to_json())
            return
        counts = listeners.collect(night, sessions or listeners.SESSIONS, run=run_id(), rebuild=rebuild)
    events = counts["next"] + counts["last"]
    print(f"{day}: {counted(counts['episodes'], 'session')}, {counted(events, 'event')}")


@app.command()
def verify(day: DateOption, as_json: JsonOption = False) -> None:
    """Check a finished night against its manifests, counts and Redis, and print its digest."""
    from recsys.inspection.verify import require_finished
    from recsys.inspection.verify import verify as check
    from recsys.night.night import Night

    log_date = past(day)
    require_finished(Night(log_date, load_settings()))
    with redis_of_platform(load_settings()) as settings:
        result = check(Night(log_date, settings))
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
    user: Annotated[str, typer.Argument(help="Who was answered: an integer, or a text.")],
    session: Annotated[int, typer.Argument(min=0, help="Session, as in the log.")],
    step: Annotated[int, typer.Argument(min=0, help="Step in the session, from 0.")],
    day: Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Look in the experiment of this date.")] = None,
    directory: Annotated[Path | None, typer.Option("--logs", help="Or in this directory; default: live requests.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say from the log why a track was served."""
    from recsys.catalog import number_of
    from recsys.inspection.explain import explain as look
    from recsys.storage.layout import Dated
    from recsys.storage.store import Storage

    settings = load_settings()
    store = Storage(settings.storage_url)
    if day:
        directory = store.local(Dated.EXPERIMENTS.on(past(day)))
    found = look(store, directory or settings.log_dir / "live", number_of(user), session, step)
    print(json.dumps(asdict(found)) if as_json else "\n".join(found.lines()))


@app.command()
def drift(
    day: DateOption,
    sessions: Annotated[int, typer.Option(min=100, help="Sessions to play now.")] = 10_000,
    as_json: JsonOption = False,
) -> None:
    """Compare the sessions of a log date with what the simulator produces now (exit status 1: they have drifted apart)."""
    from recsys.inspection.drift import check
    from recsys.night.night import Night

    found = check(Night(past(day), beside(load_settings())), sessions, run=run_id())
    if as_json:
        print(json.dumps(asdict(found) | {"drifted": found.drifted}))
    else:
        print(f"{counted(found.logged_sessions, 'logged session')} of {day}, {found.simulated_sessions:,} simulated")
        for c in found.comparisons:
            print(
                f"{c.name:<6} mean {c.logged_mean:.3f} logged, {c.simulated_mean:.3f} simulated; distance {c.distance:.4f} "
                f"(p = {c.p_value:.3g}): {'DRIFTED' if c.drifted else 'alike'}"
            )
    if found.drifted:
        raise typer.Exit(1)


@app.command("diff")
def diff_nights(
    first: Annotated[str, typer.Argument(metavar="DATE", help="One night.")],
    second: Annotated[str, typer.Argument(metavar="DATE", help="Another.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two nights: data, settings, lists and metrics."""
    from recsys.inspection.diff import compare
    from recsys.storage.store import Storage

    found = compare(Storage(load_settings().storage_url), past(first), past(second))
    if as_json:
        print(json.dumps([asdict(row) for row in found], indent=1))
        return
    subject, width = "", max(len(row.name) for row in found)
    for row in found:
        if row.subject != subject:
            subject = row.subject
            print(f"{subject}")
        print(f"  {' ' if row.same else '*'} {row.name:<{width}}  {row.text()}")


@app.command()
def nights(as_json: JsonOption = False) -> None:
    """List every night so far."""
    from recsys.abtest.history import nights as list_nights
    from recsys.abtest.schema import percents
    from recsys.storage.store import Storage

    rows = list_nights(Storage(load_settings().storage_url))
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    print(f"{'date':<12}{'verdict':<14}{'sessions':>9}  {'effect, 95 % interval':<30}live")
    for row in rows:
        measured = percents(row)
        effect = "{:+.1f} % [{:+.1f}, {:+.1f}]".format(*measured) if measured else "-"
        live = f"cannot be read: {row.reason}" if row.verdict == "damaged" else row.live or "-"
        print(f"{row.log_date:<12}{row.verdict:<14}{row.sessions or '-':>9}  {effect:<30}{live}")


@app.command()
def days(
    out: Annotated[Path | None, typer.Option(help="Draw a picture here (PNG).")] = None,
    world: WorldOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how listeners fared on each log date."""
    from recsys import catalog
    from recsys.inspection.days import by_day, difference, draw, to_json
    from recsys.storage.store import Storage

    settings = load_settings(world=world)
    store = Storage(settings.storage_url)
    found = by_day(store, catalog.load_tracks(settings.world).size)
    if out:
        draw(found, out)
    if as_json:
        print(json.dumps([to_json(day) for day in found], indent=1))
        return
    print(f"{'date':<12}{'sessions':>9}  {'session time, 95 % interval':<28}{'coverage':>9}  served by")
    for day in found:
        served = ", ".join(f"{version or 'no version'} {share:.0%}" for version, share in day.versions.items())
        interval = f"{day.mean:.2f} [{day.low:.2f}, {day.high:.2f}]"
        print(f"{day.log_date!s:<12}{day.sessions:>9}  {interval:<28}{day.coverage:>9.1%}  {served}")
    if len(found) > 1:
        change = difference(store, found[0].log_date, found[-1].log_date)
        print(f"from the first to the last, by user: {change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]")
