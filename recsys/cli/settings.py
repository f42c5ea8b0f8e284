"""The command that lists every setting: its variable, value, default and meaning; docs/settings.md is printed by it."""

import json
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from recsys.cli.options import JsonOption
from recsys.settings import HDFS_PREFIX, PREFIX, HdfsOptions, Settings, load_hdfs_options, load_settings

#: Where a section begins: the variable of its first setting.
SECTIONS = {
    "RECSYS_VAR": "Where things are",
    "RECSYS_SEED": "Collection, training and the night",
    "RECSYS_SIMULATION": "The platform and its containers",
    "RECSYS_HDFS_USER": "HDFS",
}
INTRODUCTION = """# Settings

Settings are environment variables. A value that breaks its constraint, and a `RECSYS_…` variable that is none of these, are
errors that say so. Airflow's tasks take Redis and HDFS from its connections, and what the trigger form says from the run. In
containers a file `/run/secrets/recsys_…`, named like the variable in small letters, sets one, too.

`recsys settings` lists them with the values that hold now. This page is what `recsys settings --markdown` prints.
"""


class Setting(NamedTuple):
    """A setting: what may stand there, its default, its value and whether somebody gave it; all for people."""

    variable: str
    values: str
    default: str
    value: str
    given: bool
    meaning: str


def settings(
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/settings.md.")] = False,
) -> None:
    """List every setting: its value, and what it means."""
    if markdown:
        print(page())
        return
    found = list(listed(load_settings(), load_hdfs_options()))
    if as_json:
        print(json.dumps([setting._asdict() for setting in found], indent=1))
        return
    for setting in found:
        print(f"{setting.variable}={setting.value}{'' if setting.given else '  (default)'}\n    {setting.meaning}")


def page() -> str:
    """The page of all settings, in Markdown."""
    parts = [INTRODUCTION]
    for setting in listed(Settings.model_construct(), HdfsOptions.model_construct()):
        if setting.variable in SECTIONS:
            title = SECTIONS[setting.variable]
            parts.append(f"\n## {title}\n\n| variable | values | default | meaning |\n|---|---|---|---|\n")
        default, meaning = f"`{setting.default}`" if setting.default else "", setting.meaning.replace("<", "&lt;")
        parts.append(f"| `{setting.variable}` | {setting.values} | {default} | {meaning} |\n")
    return "".join(parts).rstrip("\n")


def listed(*groups: BaseSettings) -> Iterator[Setting]:
    """Every setting, in the order in which they are declared; secrets are hidden."""
    for group in groups:
        kind = type(group)
        properties = kind.model_json_schema()["properties"]
        prefix = {Settings: PREFIX, HdfsOptions: HDFS_PREFIX}[kind]
        for name, field in kind.model_fields.items():
            yield Setting(
                f"{prefix}{name}".upper(),
                _values(properties[name]),
                "" if field.default_factory else _shown(field.default),
                _shown(getattr(group, name)),
                name in group.model_fields_set,
                field.description or "",
            )


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "(hidden)" if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _values(schema: dict[str, object]) -> str:
    """What may stand in a setting, from its JSON Schema.

    >>> _values({"type": "integer", "minimum": 1, "maximum": 64})
    'whole number, 1 to 64'
    >>> _values({"anyOf": [{"type": "string", "format": "path"}, {"type": "null"}]})
    'path'
    """
    if isinstance(choices := schema.get("anyOf"), list):
        return _values(choices[0])
    if isinstance(words := schema.get("enum"), list):
        return ", ".join(f"`{word}`" for word in words)
    if schema.get("type") == "boolean":
        return "`true`, `false`"
    if schema.get("type") not in ("integer", "number"):
        return {"path": "path", "password": "text, secret"}.get(str(schema.get("format")), "text")
    kind = "whole number" if schema["type"] == "integer" else "number"
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(above := schema.get("exclusiveMinimum"), int | float):
        return f"{kind}, above {above:g}"
    if isinstance(below := schema.get("exclusiveMaximum"), int):
        high = below - 1
    if high is not None:
        return f"{kind}, {low} to {high}"
    return kind if low is None else f"{kind}, at least {low}"
