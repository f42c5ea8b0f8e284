"""Commands of the embedded platform, and what is installed."""

import json

import typer

from recsys.cli.options import JsonOption, beside
from recsys.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="The embedded platform: Valkey, the service, Airflow.")


@app.command("run")
def platform_run() -> None:
    """From nothing to a finished night, then stop everything."""
    from recsys import platform

    raise typer.Exit(platform.run(load_settings()))


@app.command("up")
def platform_up() -> None:
    """Start everything and keep the web UI until Ctrl-C."""
    from recsys import platform

    raise typer.Exit(platform.up(load_settings()))


@app.command("down")
def platform_down() -> None:
    """Stop what a platform left running."""
    from recsys import platform

    raise typer.Exit(platform.down(load_settings()))


@app.command("airflow", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def platform_airflow(context: typer.Context) -> None:
    """Airflow's own command line on this platform: recsys platform airflow backfill create …"""
    from recsys.platform import command_line

    raise typer.Exit(command_line.run(load_settings(), context.args))


def doctor(as_json: JsonOption = False) -> None:
    """Say which components are there and what is missing."""
    from recsys.inspection.doctor import examine

    findings = examine(beside(load_settings()))
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        for finding in findings:
            print(f"{'ok' if finding.ok else 'missing' if finding.needed else 'absent':<8} {finding.name:<16} {finding.text}")
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)
