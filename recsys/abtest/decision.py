"""The promotion rule: which conditions a candidate must meet, evaluated line by line.

In go the comparisons, the checks and the guardrails of a report, and the configured limits; out comes a verdict with one plain
sentence a rule. Timings are shown in the report but decide nothing unless the configuration limits them, so that two runs of the
same night decide alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.abtest.analysis import Comparison, SampleRatio
from recsys.abtest.metrics import PRIMARY, Guardrail
from recsys.abtest.non_inferiority import NonInferiority
from recsys.abtest.rule import PromotionRule
from recsys.abtest.wording import counted


@dataclass(frozen=True)
class Line:
    """One rule: its name, whether it holds, and the sentence with its numbers."""

    rule: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """Promote or hold, and the evaluated rules."""

    verdict: Literal["promote", "hold"]
    lines: tuple[Line, ...]

    @property
    def reasons(self) -> list[str]:
        """A sentence a rule."""
        return [line.text for line in self.lines]


def decide(
    primary: Comparison | None,
    live: Comparison | None,
    *,
    rule: PromotionRule,
    ratio: SampleRatio,
    validity: Sequence[Comparison],
    guardrails: Mapping[str, float | None],
    counts: Mapping[str, int],
    before: Sequence[Comparison] = (),
    reference: Comparison | None = None,
    tests: Sequence[NonInferiority] = (),
) -> Decision:
    """Evaluate every rule; all must hold.

    Args:
        primary: the primary metric of the candidate against the control; None if one of the arms is missing.
        live: the primary metric of the candidate against the live version; None if no live version took part.
        guardrails: the candidate's values by name.
        counts: of :class:`recsys.abtest.sessions.ExperimentLog`.
        before: the arms compared by what users did before the experiment.
        reference: the primary metric of the candidate against the last version that was shown better.
        tests: of the guardrails that have a margin.
    """
    lines = [_better(primary, rule.minimum_effect_percent)]
    if live is not None:
        lines.append(_not_worse(live, rule.margin, "not worse than live", f"the live version {live.control}"))
    if reference is not None:
        other = f"{reference.control}, the last version shown better, by their effects against the control"
        lines.append(_not_worse(reference, rule.total_margin, "not worse than reference", other))
    lines += [_ratio(ratio), _assignment(counts), _arrivals(validity, rule.arrivals_alarm), _complete(counts, rule.max_dropped)]
    lines += _alike(before, rule.before_alarm)
    lines += [*_guardrails(guardrails, rule.limited()), *map(_tested, tests)]
    return Decision("promote" if all(line.ok for line in lines) else "hold", tuple(lines))


def decide_table(
    primary: Comparison | None,
    *,
    rule: PromotionRule,
    ratio: SampleRatio,
    before: Sequence[Comparison],
    counts: Mapping[str, int],
) -> Decision:
    """Evaluate the rules that a table of users can answer; higher counts as better.

    Args:
        primary, ratio, before: as of :func:`decide`. counts: of :class:`recsys.abtest.table.UserTable`.
    """
    both, users = counts["users_in_two_arms"], counted(counts["users"], "user")
    told = (
        f"Assignment: {counted(both, 'user')} in two arms."
        if both
        else f"Assignment: {users}, each in one arm, as the table says."
    )
    better = _better(primary, rule.minimum_effect_percent, by_difference=True)
    lines = [better, _ratio(ratio), Line("assignment", both == 0, told)]
    lines += _alike(before, rule.before_alarm)
    return Decision("promote" if all(line.ok for line in lines) else "hold", tuple(lines))


def percent(value: float) -> str:
    """A signed percentage.

    >>> percent(3.14159)
    '+3.1 %'
    """
    return f"{value:+.1f} %".replace("-", "−")


def interval(result: Comparison) -> str:
    """The relative interval as text."""
    if result.ci_low_percent is None or result.ci_high_percent is None:
        return "no interval"
    return f"{result.interval} {percent(result.ci_low_percent)} to {percent(result.ci_high_percent)}"


def _better(result: Comparison | None, least: float, *, by_difference: bool = False) -> Line:
    rule = "better than control"
    if result is None:
        return Line(rule, False, "Better than the control: cannot be said, because one of the two arms has no users.")
    name = f"{result.label or PRIMARY.label} of {result.arm} against {result.control}"
    if result.effect_percent is None or result.ci_low_percent is None or result.ci_high_percent is None:
        if by_difference and not least:
            return Line(rule, *_by_difference(name, result))
        return Line(rule, False, f"{name}: no result, because {result.reason}.")
    low, high = result.ci_low_percent, result.ci_high_percent
    if low > least:
        said = f"above {least:g}, so it is better"
    elif high < least:
        said = f"below {least:g}, so it is worse" if least == 0 else f"below the {least:g} % that are asked for"
    else:
        said = f"around {least:g}, so no difference is shown" if least == 0 else f"not above the {least:g} % that are asked for"
    return Line(rule, low > least, f"{name}: {percent(result.effect_percent)} ({interval(result)}), {said}.")


def _by_difference(name: str, result: Comparison) -> tuple[bool, str]:
    """What a difference says where there is no relative effect."""
    if result.effect is None or result.ci_low is None or result.ci_high is None:
        return False, f"{name}: no result, because {result.reason}."
    low, high = result.ci_low, result.ci_high
    said = (
        "above 0, so it is better"
        if low > 0
        else "below 0, so it is worse"
        if high < 0
        else "around 0, so no difference is shown"
    )
    told = f"difference {signed(result.effect)} (95 % interval {signed(low)} to {signed(high)}), {said}; {result.reason}"
    return low > 0, f"{name}: {told}."


def signed(value: float) -> str:
    """A number with its sign, to four digits.

    >>> signed(-0.0123456), signed(1234.5)
    ('−0.01235', '+1,234')
    """
    text = f"{value:+,.4g}" if 1e-4 <= abs(value) < 1e4 or not value else f"{value:+.3e}"
    return text.replace("-", "−")


def _not_worse(result: Comparison, margin: float, rule: str, other: str) -> Line:
    name = f"{PRIMARY.label} of {result.arm} against {other}"
    if result.effect_percent is None or result.ci_low_percent is None or result.ci_high_percent is None:
        return Line(rule, False, f"{name}: no result, because {result.reason}.")
    limit = -100 * margin
    ok = result.ci_low_percent > limit
    if ok:
        said = f"more than {100 * margin:g} % worse is ruled out"
    elif result.ci_high_percent < limit:
        said = f"it is more than {100 * margin:g} % worse"
    else:
        said = f"more than {100 * margin:g} % worse cannot be ruled out"
    return Line(rule, ok, f"{name}: {percent(result.effect_percent)} ({interval(result)}), {said}.")


def _ratio(ratio: SampleRatio) -> Line:
    users = ", ".join(f"{arm} {count:,}" for arm, count in ratio.users.items())
    if ratio.p_value is None:
        return Line("sample ratio", False, f"Sample ratio: cannot be checked, because {ratio.reason}.")
    said = "as the design says" if ratio.ok else "not as the design says; the split is broken"
    return Line("sample ratio", ratio.ok, f"Sample ratio: users {users} ({p_text(ratio.p_value)}), {said}.")


def _assignment(counts: Mapping[str, int]) -> Line:
    both, wrong = counts["users_in_two_arms"], counts.get("misassigned")
    if both == 0 and not wrong:
        said = "as logged; the hash was not recomputed" if wrong is None else "the one that the hash gives"
        return Line("assignment", True, f"Assignment: {counted(counts['users'], 'user')}, each in one arm, {said}.")
    told = f"Assignment: {counted(both, 'user')} in two arms, {wrong or 0:,} in another arm than their hash says."
    return Line("assignment", False, told)


def _arrivals(validity: Sequence[Comparison], alarm: float) -> Line:
    tested = [c for c in validity if c.p_value is not None]
    bad = [c for c in tested if (c.p_value or 0.0) < alarm]
    if bad:
        said = "; ".join(f"{c.arm} {c.treatment_mean:.2f} against {c.control_mean:.2f}" for c in bad)
        return Line("arrivals", False, f"Arrivals: sessions a user differ ({said}), which no recommendation can cause.")
    return Line("arrivals", True, "Arrivals: sessions a user do not differ between the arms, as it must be.")


def _alike(before: Sequence[Comparison], alarm: float) -> list[Line]:
    """Whether the arms were alike before the experiment, where that is known."""
    tested = [c for c in before if c.p_value is not None]
    bad = [c for c in tested if (c.p_value or 0.0) < alarm]
    if not tested:
        return []
    if bad:
        said = "; ".join(f"{c.label} of {c.arm} against {c.control}, {p_text(c.p_value or 0.0)}" for c in bad)
        return [Line("before", False, f"Before the experiment: the arms differed already ({said}); an effect may be no effect.")]
    return [Line("before", True, "Before the experiment: the arms did not differ in what their users did.")]


def _complete(counts: Mapping[str, int], most: float) -> Line:
    malformed, unfinished = counts["malformed"], counts["unfinished_sessions"]
    records, sessions = max(1, counts["events"] + malformed), max(1, counts["sessions"] + unfinished)
    lost = max(malformed / records, unfinished / sessions)
    said = f"{counted(malformed, 'malformed line')}, {counted(unfinished, 'unfinished session')}"
    return Line("logs", lost <= most, f"Logs: {said}; at most {100 * most:g} % may be lost.")


def _guardrails(values: Mapping[str, float | None], limited: Sequence[Guardrail]) -> list[Line]:
    lines = []
    for guardrail in limited:
        value = values.get(guardrail.name)
        if value is None or (guardrail.at_most is None and guardrail.at_least is None):
            continue
        limit = (
            f"at most {guardrail.text(guardrail.at_most)}"
            if guardrail.at_most is not None
            else f"at least {guardrail.text(guardrail.at_least or 0.0)}"
        )
        lines.append(
            Line(guardrail.name, guardrail.holds(value), f"{guardrail.label}: {guardrail.text(value)}, allowed {limit}.")
        )
    return lines


def _tested(test: NonInferiority) -> Line:
    """A guardrail with a margin."""
    unit = "points" if test.unit == "points" else "%"
    name, worse = f"{test.label} of {test.arm} against {test.control}", f"more than {test.margin:g} {unit} worse"
    if test.ci_low is None or test.ci_high is None or test.effect is None:
        said = "not more, and the same for every user" if test.ok else f"{worse} cannot be ruled out, because {test.reason}"
        return Line(test.name, test.ok, f"{name}: {_values(test)}, {said}.")
    is_shown = test.ci_high < -test.margin if test.higher_is_better else test.ci_low > test.margin
    said = f"{worse} is ruled out" if test.ok else f"it is {worse}" if is_shown else f"{worse} cannot be ruled out"
    if not test.ok and not is_shown and test.shows is not None and test.shows > test.margin:
        said += f", for so few users show no less than {test.shows:.2g} {unit}"
    low, high, effect = map(fixed, (test.ci_low, test.ci_high, test.effect))
    return Line(test.name, test.ok, f"{name}: {_values(test)}, {effect} {unit} ({test.interval} {low} to {high}), {said}.")


def fixed(value: float) -> str:
    """A number with its sign and two decimals.

    >>> fixed(-0.001), fixed(-1.5)
    ('+0.00', '−1.50')
    """
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


def _values(test: NonInferiority) -> str:
    values = (test.value or 0.0, test.control_value or 0.0)
    return "{} against {}".format(*(f"{100 * v:.2f} %" if test.unit == "points" else f"{v:,.3g}" for v in values))


def p_text(p_value: float) -> str:
    """A p-value for people.

    >>> p_text(0.00001), p_text(0.0312)
    ('p < 0.0001', 'p = 0.031')
    """
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.2g}" if p_value < 0.01 else f"p = {p_value:.3f}"
