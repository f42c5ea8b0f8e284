"""The A/B report as one HTML page that needs nothing else: no script, no external file, readable offline, in print and aloud.

In go the report's document and its pictures; out comes report.html. The words of its first screen come from
:mod:`recsys.abtest.headline`.
"""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from recsys.abtest.analysis import Adjusted, Comparison
from recsys.abtest.decision import fixed, p_text, percent, signed
from recsys.abtest.headline import beside_rules, headline, label_of
from recsys.abtest.metrics import GUARDRAILS, METRICS, SHARE
from recsys.abtest.pictures import DARK, LIGHT, NARROW
from recsys.abtest.schema import GuardrailRow, PastNight, Picture, Report, percents
from recsys.abtest.wording import counted

CHECKSUM = re.compile("[0-9a-f]{64}")
#: Pictures that would be too small to read on a phone; they are scrolled there.
WIDE = ("nights", "cumulative", "history")
#: Earlier nights whose predictions are shown, at most.
MOST_PREDICTIONS = 14
ROLES = {
    "primary": "decides",
    "secondary": "secondary",
    "validity": "validity check",
    "cost": "cost",
    "context": "for comparison",
    "non_inferiority": "not worse than live",
    "adjusted": "adjusted (CUPED)",
    "winsorised": "winsorised",
    "before": "before the experiment",
    "reference": "not worse than the reference",
}


def write_page(directory: Path, report: Report) -> None:
    """Write ``report.html`` beside the pictures, which are embedded."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("recsys.abtest", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": signed_percent, "p": lambda p: "–" if p is None else p_text(p)}
    environment.filters |= {"counted": counted, "glue": lambda text: text.replace(" %", "\u00a0%")}
    environment.filters["guardrail"] = lambda row: "not logged" if row.value is None else _guardrail(row.name, row.value)
    environment.filters |= {"fixed": fixed, "signed": signed, "of_unit": of_unit}
    page = environment.get_template("report.html.j2").render(
        report=report,
        primary=report.deciding(),
        version=report.version or (report.outcome.version if report.outcome else ""),
        images=[_image(directory, picture) for picture in report.pictures],
        wide=WIDE,
        roles=ROLES,
        said=headline(report),
        beside=beside_rules(report),
        definitions=_definitions(report),
        cuped=_cuped(report),
        units={row.name: row.unit for row in report.metrics},
        groups=_groups(report),
        guardrails=_guardrail_groups(report),
        predictions=_predictions(report),
        gate=_figures(report.gate.model_dump() if report.gate else {}),
        model=_figures(report.model.model_dump() if report.model else {}),
        origin=_origin(report),
        counts=[(name.replace("_", " "), f"{count:,}") for name, count in report.counts.items()],
    )
    (directory / "report.html").write_text(page, encoding="utf-8")


def _predictions(report: Report) -> list[PastNight]:
    """Nights whose effect the gate foretold, this one first, then the latest ones."""
    found = [night for night in reversed(report.history) if night.predicted_percent is not None][:MOST_PREDICTIONS]
    told, row = report.predicted(), report.primary()
    if not told:
        return found
    effect, low, high = (percents(row) if row else None) or (None, None, None)
    own = PastNight(
        log_date=report.log_date or "",
        verdict=report.decision.verdict,
        effect_percent=effect,
        ci_low_percent=low,
        ci_high_percent=high,
        live=None,
        predicted_percent=told.effect_percent,
        predicted_low_percent=told.ci_low_percent,
        predicted_high_percent=told.ci_high_percent,
    )
    return [own, *found]


class Figures(NamedTuple):
    """Facts of a document: its own, and those of its parts."""

    plain: list[tuple[str, str]]
    nested: list[tuple[str, str]]


def _figures(document: Mapping[str, object]) -> Figures | None:
    found = facts(document)
    plain, nested = ([fact for fact in found if ("." in fact[0]) is inner] for inner in (False, True))
    return Figures(plain, nested) if found else None


def _origin(report: Report) -> list[tuple[str, str]]:
    """Where the report comes from; of many directories the first and the last."""
    origin, timing = report.provenance, report.provenance.timing
    first, *others = [origin.source.removeprefix("table ")] if report.table else origin.source.split(", ")
    source = f"{first} to {others[-1]}: {counted(len(others) + 1, 'log date')}; each is named in report.json" if others else first
    timing = None if others else timing
    assignment = [("Assignment", origin.assignment)] if report.experiment else []
    found = [("Table" if report.table else "Logs", source), *assignment]
    return found + ([("Checksum", timing.checksum)] if timing else [])


def facts(document: Mapping[str, object]) -> list[tuple[str, str]]:
    """Plain entries of a JSON document as (name, value), nested names joined by a dot; no lists, checksums shortened."""
    found: list[tuple[str, str]] = []
    for name, value in document.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", text) for inner, text in facts(value)]
        elif isinstance(value, bool):
            found.append((str(name), "yes" if value else "no"))
        elif isinstance(value, float):
            found.append((str(name), f"{value:.4g}"))
        elif isinstance(value, int | str) and value != "":
            found.append((str(name), value[:12] if isinstance(value, str) and CHECKSUM.fullmatch(value) else str(value)))
    return found


def number(value: float | None, digits: int = 2) -> str:
    """A number with separators, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def digits(value: float | None) -> str:
    """A number with two decimals, or three digits where it is smaller than 1.

    >>> digits(1234.5), digits(0.4), digits(None)
    ('1,234.50', '0.400', '–')
    """
    return f"{value:#.3g}" if value is not None and 0 < abs(value) < 1 else number(value)


def of_unit(value: float | None, unit: str) -> str:
    """A mean as its unit asks: shares of users in percent.

    >>> of_unit(0.125, "share of users"), of_unit(0.125, "tracks")
    ('12.50 %', '0.125')
    """
    return f"{100 * value:.2f} %" if value is not None and unit == SHARE else digits(value)


def signed_percent(value: float | None) -> str:
    """A signed percentage with a true minus sign, or a dash."""
    return "–" if value is None else percent(value)


def _cuped(report: Report) -> list[Adjusted]:
    """Comparisons with CUPED, that of the deciding metric first."""
    return [row for row in (report.adjusted, *report.also_adjusted) if row]


def _definitions(report: Report) -> list[tuple[str, str]]:
    """What metrics and guardrails are, by their labels."""
    if report.table is None:
        return [(m.label, m.definition) for m in METRICS] + [(g.label, g.definition) for g in GUARDRAILS]
    earlier = {f"{name}, before the experiment": text for name, text in report.table.covariates.items()}
    return [*report.table.metrics.items(), *earlier.items()]


def _groups(report: Report) -> list[tuple[str, list[Comparison]]]:
    """Metrics by pair of arms, those of the treatments first."""
    found: dict[str, list[Comparison]] = {}
    extra = [
        row for row in (report.winsorised, *_cuped(report), *report.before, report.against_live, report.against_reference) if row
    ]
    for row in [*([report.watched] if report.watched else []), *report.metrics, *extra]:
        found.setdefault(f"{label_of(report, row.arm)} against {label_of(report, row.control)}", []).append(row)
    return sorted(found.items(), key=lambda group: group[1][0].role == "context")


def _guardrail_groups(report: Report) -> list[list[GuardrailRow]]:
    """Guardrails in their declared order, each with its arms."""
    found: dict[str, list[GuardrailRow]] = {}
    for row in report.guardrails:
        found.setdefault(row.name, []).append(row)
    return list(found.values())


def _guardrail(name: str, value: float) -> str:
    return next(g for g in GUARDRAILS if g.name == name).text(value)


def _image(directory: Path, picture: Picture) -> dict[str, Picture | str]:
    """A picture with its variants; the narrow ones are empty where there are none."""
    found: dict[str, Picture | str] = {"picture": picture}
    for name, narrow in (("", ""), ("narrow_", NARROW)):
        for theme, said in ((LIGHT, "light"), (DARK, "dark")):
            path = directory / f"{picture.name}{narrow}{theme.suffix}.png"
            found[name + said] = _data_url(path) if path.exists() or not narrow else ""
    return found


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
