"""Commands about experiments in directories of logs."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recsys.abtest.wording import counted
from recsys.cli.options import DateOption, JsonOption, beside, past, run_id
from recsys.exceptions import InvalidInputError
from recsys.experiments import EXPERIMENT
from recsys.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Experiments: in directories of logs, or in a table of users.")

_EXAMPLE = (
    "Example: recsys abtest table users.csv --unit user_id --arm variant --control off --metric revenue=revenue "
    "--metric bought=has_bought --metric 'clicks a view=clicks/views' --covariate revenue=revenue_last_month "
    "--share off=9 --share on=1 --out report"
)


@app.callback()
def group() -> None:
    """Experiments: in directories of logs, or in a table of users."""


@app.command("report")
def abtest_report(
    logs: Annotated[Path, typer.Option(help="Directory of logs, one JSON object a line.")],
    experiment: Annotated[str, typer.Option(help="Name of the experiment in the logs.")],
    control: Annotated[str, typer.Option(help="Name of the control arm.")],
    out: Annotated[Path, typer.Option(help="Where report.html, report.json and the pictures go.")],
    live: Annotated[str | None, typer.Option(help="Arm that the treatment must not be worse than.")] = None,
    before: Annotated[Path | None, typer.Option(help="Logs from before the experiment, to make its noise smaller.")] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="ARM=SHARE,…", help="Declared shares of the arms, C=2,T1=1 say; without them equal ones are expected."
        ),
    ] = None,
) -> None:
    """Analyse any directory of logs in the original's format and write the report."""
    from recsys.abtest.report import analyse

    if not logs.is_dir():
        raise InvalidInputError(f"logs {logs} is not a directory")
    settings = load_settings()
    document = analyse(
        logs,
        experiment,
        control,
        live=live,
        promotion=settings.promotion,
        before=before,
        shares=None if shares is None else _read_shares("--shares", shares.split(",")),
        out=out,
    )
    print(f"{out / 'report.html'}: {document.decision.verdict}")
    for reason in document.decision.reasons:
        print(f"  {reason}")


@app.command("table", epilog=_EXAMPLE)
def abtest_table(
    file: Annotated[
        Path, typer.Argument(help="CSV, TSV and the like, JSON lines, both also gzipped, or Parquet; with a header.")
    ],
    unit: Annotated[str, typer.Option(metavar="COLUMN", help="Who was assigned; a row each.")],
    arm: Annotated[str, typer.Option(metavar="COLUMN", help="Which arm the user was in.")],
    control: Annotated[str, typer.Option(metavar="VALUE", help="The arm that the others are compared with.")],
    metric: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=COLUMN[/COLUMN]",
            help="What is compared, the first decides: the mean of a column, the share of users for whom it is true, "
            "or the ratio of the sums of two columns. Again for each further metric.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where report.html, report.json and the pictures go.")],
    covariate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COLUMN[/COLUMN]",
            help="What the users did before the experiment, by the metric's name: makes its noise smaller (CUPED), "
            "and shows whether the arms were alike.",
        ),
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARM=WEIGHT", help="Declared share of an arm, again for each; without them equal ones are expected."
        ),
    ] = None,
) -> None:
    """Compare the arms of anybody's experiment, from a table with a row a user, and write the report.

    Empty values are missing; a user in two arms is left out, and the report says so.
    """
    from recsys.abtest.headline import headline
    from recsys.abtest.table import Asked
    from recsys.abtest.table_report import analyse_table

    shares = _read_shares("--share", share) if share else None
    asked = Asked(file, unit, arm, control, tuple(metric), tuple(covariate or ()), shares)
    document = analyse_table(asked, promotion=load_settings().promotion, out=out)
    print(f"{out / 'report.html'}: {headline(document).title}")
    for reason in document.decision.reasons:
        print(f"  {reason}")
    for warning in document.warnings:
        print(f"  {warning}")


@app.command()
def calibrate(
    day: Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Night whose experiment is split.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Or a directory of logs.")] = None,
    experiment: Annotated[str, typer.Option(help="Name of the experiment in the logs.")] = EXPERIMENT,
    arm: Annotated[str, typer.Option(help="Arm whose users are split.")] = "C",
    repetitions: Annotated[int, typer.Option(min=100, max=100_000, help="Random splits.")] = 2000,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed; default RECSYS_SEED.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the statistics on real logs: thousands of random splits of one arm, where no difference can be."""
    from recsys.abtest.calibration import calibrate as split
    from recsys.abtest.calibration import store_calibration
    from recsys.abtest.sessions import read_log
    from recsys.storage.layout import Dated
    from recsys.storage.store import Storage

    if (day is None) == (logs is None):
        raise InvalidInputError("give either --date or --logs")
    settings = load_settings()
    store = Storage(settings.storage_url)
    source = Dated.EXPERIMENTS.on(past(day)) if day else "given logs"
    found = read_log(logs or store.local(source), experiment)
    document = split(found, arm, repetitions=repetitions, seed=settings.seed if seed is None else seed, source=source)
    store_calibration(store, document)
    if as_json:
        print(document.to_json())
    else:
        print(f"{counted(repetitions, 'split')} of {counted(document.users, 'user')} of arm {arm}, {source}")
        for row in document.metrics:
            if row.false_positive_percent is None or row.uniform_p is None:
                print(f"{_mark(row.ok)}  {row.label}: no p-value at all")
                continue
            allowed = f"({row.low_percent:.2f} to {row.high_percent:.2f})"
            print(
                f"{_mark(row.ok)}  {row.label}: {row.false_positive_percent:.2f} % false positives {allowed}, "
                f"p-values even with p = {row.uniform_p:.3f}"
            )
        for planted in document.coverage:
            allowed = f"({planted.low_percent:.2f} to {planted.high_percent:.2f})"
            covered = "-" if planted.covered_percent is None else f"{planted.covered_percent:.2f}"
            told = f"planted {planted.effect_percent:+g} %: {covered} % of the intervals hold it {allowed}"
            print(f"{_mark(planted.ok)}  {told}")
    if not document.ok:
        raise typer.Exit(1)


@app.command()
def plan(
    effect: Annotated[float, typer.Option(help="Effect to be found, in percent of the control mean.")] = 5.0,
    days: Annotated[int, typer.Option(min=1, help="Log dates, ending with --date, by which is planned.")] = 28,
    day: Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Log date; default the last one.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Or a directory of logs; days are those of its timestamps (UTC).")] = None,
    power: Annotated[float, typer.Option(help="Probability with which it is found.")] = 0.8,
    as_json: JsonOption = False,
) -> None:
    """How many listeners and nights an experiment needs, by past logs: for one look, and for a look every night."""
    from recsys.abtest import plan as planning
    from recsys.abtest.sessions import read_visits
    from recsys.experiments import ORIGINAL, load_live_experiment
    from recsys.storage.store import Storage

    if day is not None and logs is not None:
        raise InvalidInputError("give either --date or --logs")
    settings = load_settings()
    last = None if day is None else past(day)
    visits = [read_visits(logs)] if logs else planning.stored_visits(Storage(settings.storage_url), last, days)
    design = load_live_experiment(settings.experiments) or ORIGINAL
    found = planning.plan(*planning.arrivals(visits), effect / 100, power=power, design=design)
    if as_json:
        print(json.dumps(asdict(found), indent=1))
        return
    print(
        f"{counted(found.users, 'listener')} in {counted(found.nights, 'night')}: {found.mean:.2f} tracks a session on average, "
        f"standard deviation of listeners {found.deviation:.2f}"
    )
    print(f"{effect:+g} % is found with a probability of {100 * power:g} %, between {found.control} and {found.treatment}:")
    for name, needed in (("one look at the end", found.once), ("a look every night", found.nightly)):
        nights = "never with these arrivals" if needed.nights is None else f"after {counted(needed.nights, 'night')}"
        print(f"  {name}: {counted(needed.users, 'listener')} of these two arms, {nights}")
    print(f"RECSYS_PLANNED_USERS={found.nightly.users} makes the sequence narrowest there")


@app.command()
def paired(
    day: DateOption,
    sessions: Annotated[int, typer.Option(min=100, help="Sessions played under each arm.")] = 10_000,
    as_json: JsonOption = False,
) -> None:
    """Play a night's arms again, each for the same simulated listeners and random numbers (the service must be up)."""
    from recsys.inspection.paired import play_paired
    from recsys.night.night import Night

    paired = play_paired(Night(past(day), beside(load_settings())), sessions, run=run_id())
    if as_json:
        print(paired.to_json())
        return
    print(f"simulation only: {counted(sessions, 'session')} under each arm, the same listeners and random numbers")
    for row in paired.comparisons:
        print(
            f"{row.arm} against {row.control}: {row.effect_percent:+.2f} % "
            f"[{row.ci_low_percent:+.2f}, {row.ci_high_percent:+.2f}], unpaired "
            f"[{row.unpaired_low_percent:+.2f}, {row.unpaired_high_percent:+.2f}]; correlation {row.correlation:.3f}, "
            + ("no noise is left" if row.gain is None else f"gain {row.gain:.2f} times")
        )


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of report.json."""
    from recsys.abtest.schema import Report

    print(json.dumps(Report.model_json_schema(mode="serialization"), indent=1))


def _read_shares(option: str, words: list[str]) -> dict[str, float]:
    """Shares by arm, from ``C=2``, ``T1=1``."""
    found: dict[str, float] = {}
    for word in words:
        arm, _, number = word.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not arm or arm in found or not 0 < share < math.inf:
            form = "C=2,T1=1" if option == "--shares" else "--share C=2 --share T1=1"
            raise InvalidInputError(
                f"{option} {','.join(words)!r}: {word!r} is not ARM=SHARE with an arm named once and a share above 0; "
                f"write {form} say"
            )
        found[arm] = share
    return found


def _mark(ok: bool) -> str:
    return "ok  " if ok else "FAIL"
