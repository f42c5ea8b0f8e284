"""The A/B report as one HTML page that needs nothing else: no script, no external file, readable offline, in print and aloud.

In go the report's document and its pictures; out comes report.html. The words of the first screen are chosen here.
"""

import base64
from collections.abc import Mapping
from pathlib import Path

from recsys.abtest.analysis import Comparison
from recsys.abtest.decision import p_text, percent
from recsys.abtest.metrics import GUARDRAILS, METRICS
from recsys.abtest.pictures import DARK, LIGHT
from recsys.abtest.schema import GuardrailRow, Picture, Report, percents

#: What the first screen says: before the night's last step the report's decision, afterwards what came of it.
VERDICTS = {
    "promote": "To be promoted",
    "hold": "To be held",
    "gate_refused": "Refused by the gate",
    "promoted": "Promoted",
    "held": "Held",
}
STYLES = {"promote": "promote", "promoted": "promote", "hold": "hold", "held": "hold", "gate_refused": "gate_refused"}
ROLES = {
    "primary": "decides",
    "secondary": "secondary",
    "validity": "validity check",
    "cost": "cost",
    "context": "for comparison",
    "non_inferiority": "not worse than live",
    "adjusted": "adjusted (CUPED)",
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
    environment.filters["glue"] = lambda text: text.replace(" %", "\u00a0%")
    environment.filters["guardrail"] = lambda row: "not logged" if row.value is None else _guardrail(row.name, row.value)
    page = environment.get_template("report.html.j2").render(
        report=report,
        primary=report.primary(),
        images=[_image(directory, picture) for picture in report.pictures],
        verdict=VERDICTS[verdict_of(report)],
        style=STYLES[verdict_of(report)],
        roles=ROLES,
        said=headline(report),
        definitions=[*METRICS, *GUARDRAILS],
        groups=_groups(report),
        guardrails=_guardrail_groups(report),
        gate=facts(report.gate.model_dump() if report.gate else {}),
        model=facts(report.model.model_dump() if report.model else {}),
    )
    (directory / "report.html").write_text(page, encoding="utf-8")


def verdict_of(report: Report) -> str:
    """A key of :data:`VERDICTS`."""
    return report.outcome.verdict if report.outcome else report.decision.verdict


def came_of_it(report: Report) -> str:
    """Whether it was promoted, and why, in one or two sentences."""
    failed = [rule.text for rule in report.decision.rules if not rule.ok]
    broken = f"{len(failed)} of {len(report.decision.rules)} rules fail{'s' if len(failed) == 1 else ''}. "
    outcome = report.outcome
    if outcome is None:
        return (
            broken + failed[0] if failed else "Every rule for a promotion holds; the pointer has not been moved by this report."
        )
    if outcome.verdict == "promoted":
        return f"It was promoted, because every rule holds: version {outcome.version} serves the listeners from then on."
    stays = f"{outcome.live} stays live." if outcome.live else "Nothing is live."
    why = broken + failed[0] if failed else str(outcome.reasons[-1])
    return f"It was held; {stays} {why}"


def headline(report: Report) -> dict[str, str]:
    """The answer in plain words: ``title`` (is it better), ``size`` (by how much), ``sure`` (how sure), ``outcome``."""
    if report.decision.verdict == "gate_refused":
        return {
            "title": "Last night's model was not good enough to be tried on listeners.",
            "size": "It was compared with simpler recommenders and with the live version on a day it had not seen.",
            "sure": "",
            "outcome": "Nothing changed: whatever was live before is live now.",
        }
    primary = report.primary()
    measured = percents(primary) if primary else None
    if primary is None or measured is None:
        why = primary.reason if primary else "one of the arms has no users"
        return {
            "title": "The logs give no answer.",
            "size": f"No effect can be measured: {why}.",
            "sure": "",
            "outcome": came_of_it(report),
        }
    effect, low, high = measured
    arm, control = _label(report, primary.arm), _label(report, primary.control)
    change = f"{abs(effect):.1f} % {'longer' if effect >= 0 else 'shorter'}"
    if low > 0:
        title = f"Better: listeners stay {change}."
    elif high < 0:
        title = f"Worse: listeners stay {change}."
    else:
        title = "No difference is shown."
    size = (
        f"Sessions with {arm} last {number(primary.treatment_mean)} tracks' worth of listening on average, "
        f"with {control} {number(primary.control_mean)}."
    )
    sure = (
        f"The true effect lies between {signed_percent(low)} and {signed_percent(high)} (95 % interval). "
        f"If the two were equal, a difference this large would come up in {_chance(primary.p_value or 0.0)} such tests."
    )
    if low <= 0 <= high and primary.mde_percent is not None:
        sure += f" An effect of {primary.mde_percent:.1f} % or more would probably have been found."
    return {"title": title, "size": size, "sure": sure, "outcome": came_of_it(report)}


def facts(document: Mapping[str, object]) -> list[tuple[str, str]]:
    """Plain entries of a JSON document as (name, value), nested names joined by a dot; long lists are left out."""
    found: list[tuple[str, str]] = []
    for name, value in document.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", text) for inner, text in facts(value)]
        elif isinstance(value, bool):
            found.append((str(name), "yes" if value else "no"))
        elif isinstance(value, float):
            found.append((str(name), f"{value:.4g}"))
        elif isinstance(value, int | str) and value != "":
            found.append((str(name), str(value)))
    return found


def number(value: float | None, digits: int = 2) -> str:
    """A number with separators, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def signed_percent(value: float | None) -> str:
    """A signed percentage with a true minus sign, or a dash."""
    return "–" if value is None else percent(value)


def _chance(p_value: float) -> str:
    """A p-value as so many of so many."""
    if p_value < 0.0001:
        return "fewer than 1 of 10,000"
    return f"about {1000 * p_value:.1g} of 1,000" if p_value < 0.01 else f"about {100 * p_value:.0f} of 100"


def _label(report: Report, arm: str) -> str:
    label = report.arms[arm].label
    return arm if label == arm else f"{arm} ({label})"


def _groups(report: Report) -> list[tuple[str, list[Comparison]]]:
    """Metrics by pair of arms, those of the treatments first."""
    found: dict[str, list[Comparison]] = {}
    extra = [row for row in (report.adjusted, report.against_live) if row]
    for row in [*report.metrics, *extra]:
        found.setdefault(f"{_label(report, row.arm)} against {_label(report, row.control)}", []).append(row)
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
    """A picture with its two variants."""
    light, dark = (_data_url(directory / f"{picture.name}{theme.suffix}.png") for theme in (LIGHT, DARK))
    return {"picture": picture, "light": light, "dark": dark}


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
