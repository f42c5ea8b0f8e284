"""The first screen of a report in words: what came of the night, by which number, how sure that is, and what is live.

In goes a report; out comes a :class:`Headline`. Its title begins with what was decided and names what decided it: the rule that
failed, the reason why a candidate whose rules hold was not promoted, else the effect against the control.
"""

from dataclasses import dataclass
from typing import Literal

from recsys.abtest.analysis import Comparison
from recsys.abtest.decision import Line, p_text, percent
from recsys.abtest.schema import Report, percents
from recsys.abtest.wording import counted
from recsys.storage.layout import Dated

#: Reasons of a verdict that no rule gives.
NOT_ASKED = "Promotion was not asked for."
BACKFILL = "A backfill promotes nothing unless it is asked to."
NOTHING_LIVE = "Nothing was live yet, and the candidate has passed the gate."
NO_EXPERIMENT = "There is no experiment, and the candidate has passed the gate."
GATE_ALONE = "The report speaks of what was live; of this candidate itself only the gate does."
ROLLED_OUT = "The candidate has passed the gate; how listeners fare with it decides."
#: Begins the reason of a pointer that did not move.
NOT_PROMOTED = "Not promoted: "

Style = Literal["promote", "hold", "gate_refused", "open"]

CONTROL, LIVE, REFERENCE = "better than control", "not worse than live", "not worse than reference"
#: Without these no figure can be trusted; the first that fails is told.
_TRUST = ("assignment", "sample ratio", "arrivals", "before", "logs")
_ORDER = (*_TRUST, CONTROL, LIVE, REFERENCE)
_BROKEN = "the split between the arms is broken"


@dataclass(frozen=True)
class Headline:
    """The words of the first screen: ``title`` begins with ``word``, which ``style`` colours; the others may be empty.

    ``size`` says by how much, ``sure`` how sure that is, ``outcome`` what is live, ``why`` heads the rules.
    """

    word: str
    title: str
    style: Style
    size: str
    sure: str
    outcome: str
    why: str


def headline(report: Report) -> Headline:
    """The words of a report's first screen."""
    if report.decision.verdict == "gate_refused":
        return _refused(report)
    if report.table is not None:
        return _of_table(report)
    word, title, style = _of_gate(report) if report.experiment is None else _title(report)
    why = {"Promoted": "Why it was promoted", "Held": "Why it was held"}.get(word, "The rules")
    return Headline(word, title, style, _size(report), _sure(report), _outcome(report), why)


def beside_rules(report: Report) -> list[str]:
    """Reasons of the verdict that are no rule's."""
    known = {*report.decision.reasons, *(rule.text for rule in report.decision.rules)}
    return [reason for reason in (report.outcome.reasons if report.outcome else []) if reason not in known]


def label_of(report: Report, arm: str) -> str:
    """An arm's name with what it is."""
    label = report.arms[arm].label if arm in report.arms else arm
    return arm if label == arm else f"{arm} ({label})"


def _refused(report: Report) -> Headline:
    word = "Refused by the gate"
    title = f"{word}: {_clause(report.decision.reasons[0])}."
    size = f"No listener has met the model of {report.log_date}."
    return Headline(word, title, "gate_refused", size, "", "Whatever was live before is live now.", "Why it was refused")


def _of_table(report: Report) -> Headline:
    """Of anybody's metric nobody knows whether more is better, so it is higher or lower."""
    primary, failed = report.primary(), _deciding(report)
    word = "Higher"
    if primary is None or primary.ci_low is None or primary.ci_high is None:
        word, clause = "No answer", f"no effect can be measured, because {primary.reason if primary else 'there is one arm only'}"
    elif failed and failed.rule in _TRUST:
        word, clause = "Not to be trusted", _broken(report, failed)
    else:
        effect, name = primary.effect or 0.0, f"{primary.label} of {primary.arm}"
        by = f"{abs(primary.effect_percent):.1f} % " if primary.effect_percent is not None else ""
        clause = f"{name} is {by}{'higher' if effect > 0 else 'lower'} than that of {primary.control}"
        if failed is not None and primary.ci_high < 0:
            word = "Lower"
        elif failed is not None:
            word, clause = "No difference", f"none is shown between {name} and that of {primary.control}"
            if primary.ci_low > 0:
                word, clause = "Not enough", f"{name} is not surely higher by what is asked for"
    others = len(report.treatments) - 1
    more = (
        f"This page speaks of {report.candidate} first; {counted(others, 'other arm stands', 'other arms stand')} in the numbers."
        if others > 0
        else ""
    )
    rules = report.decision.rules
    broken = counted(sum(not rule.ok for rule in rules), "rule fails", "rules fail")
    held = "Every rule holds." if failed is None else f"{broken}, of {len(rules)}."
    size = f"The users' values of {primary.label} are {_means(primary)}." if primary and primary.control_mean is not None else ""
    outcome = f"{held} Higher counts as better. {more}".strip()
    return Headline(
        word, f"{word}: {clause}.", "hold" if failed else "promote", size, _sure_of_table(report), outcome, "The rules"
    )


def _means(row: Comparison) -> str:
    return f"{row.treatment_mean:,.4g} with {row.arm} and {row.control_mean:,.4g} with {row.control} ({row.unit})"


def _sure_of_table(report: Report) -> str:
    """How sure the deciding effect is."""
    primary, failed = report.primary(), _deciding(report)
    if failed and failed.rule in _TRUST:
        return "No figure of this report can be trusted until that is explained."
    if primary is None or primary.effect_percent is None:
        return ""
    chance = _chance(primary.p_value or 0.0)
    return f"{_lies('control', primary)} If the two were equal, a difference this large would come up in {chance} such tests."


def _of_gate(report: Report) -> tuple[str, str, Style]:
    """What was decided without an experiment, as :func:`_title` says it."""
    passed, outcome = _clause(report.decision.reasons[0]), report.outcome
    if outcome is None:
        return "Not decided yet", f"Not decided yet: {passed}.", "open"
    if outcome.verdict == "promoted":
        return "Promoted", f"Promoted: {passed}.", "promote"
    because = _clause(outcome.reasons[-1].removeprefix(NOT_PROMOTED))
    return "Held", f"Held, although the candidate has passed the gate: {because}.", "hold"


def _title(report: Report) -> tuple[str, str, Style]:
    """What was decided, the sentence that begins with it, and its colour."""
    failed, outcome = _deciding(report), report.outcome
    found = _found(report, failed)
    if outcome is None and report.log_date is None:
        word = _of_given_logs(report, failed)
        title = f"{word}{found.removeprefix(word.lower())}." if found.startswith(word.lower()) else f"{word}: {found}."
        return word, title, "hold" if failed else "promote"
    if outcome is None:
        word = "Not decided yet"
        return word, f"{word}; the rules say {'hold' if failed else 'promote'}: {found}.", "open"
    if outcome.verdict == "promoted":
        # Of real listeners' logs the rules may fail all the same, if nothing was live.
        said = _clause(NOTHING_LIVE) if NOTHING_LIVE in outcome.reasons else found
        said = _clause(outcome.reasons[-1]) if ROLLED_OUT in outcome.reasons else said
        return "Promoted", f"Promoted: {said}.", "promote"
    if outcome.verdict == "rolling_out":
        return "Rolling out", f"Rolling out: {_clause(outcome.reasons[-1])}.", "open"
    if ROLLED_OUT in outcome.reasons:
        return "Held", f"Held: {_clause(outcome.reasons[-1])}.", "hold"
    if failed and NOTHING_LIVE not in outcome.reasons:
        return "Held", f"Held: {found}.", "hold"
    other = [reason for reason in beside_rules(report) if reason not in (NOTHING_LIVE, GATE_ALONE)]
    because = _clause((other or outcome.reasons)[-1].removeprefix(NOT_PROMOTED))
    return "Held", f"Held: {because}." if failed else f"Held, although {found}: {because}.", "hold"


def _deciding(report: Report) -> Line | None:
    """The rule that failed; of several, the one that makes the others moot."""
    failed = [rule for rule in report.decision.rules if not rule.ok]
    return min(failed, key=lambda rule: _ORDER.index(rule.rule) if rule.rule in _ORDER else len(_ORDER), default=None)


def _of_given_logs(report: Report, failed: Line | None) -> str:
    """What the rules make of logs that belong to no night."""
    primary = report.deciding()
    measured = percents(primary) if primary else None
    if failed is None:
        return "Better"
    if measured is None:
        return "No answer"
    if failed.rule in _TRUST:
        return "Not to be trusted"
    if failed.rule == CONTROL:
        return "Worse" if measured[2] < 0 else "No difference" if measured[1] <= 0 else "Not enough"
    return "Not as good as live" if failed.rule in (LIVE, REFERENCE) else "A guardrail fails"


def _found(report: Report, failed: Line | None) -> str:
    """What decided, as a clause: of the rule that failed, else the effect against the control."""
    primary = report.deciding()
    if primary is None or percents(primary) is None:
        return f"no effect can be measured, because {primary.reason if primary else 'one of the arms has no users'}"
    match failed.rule if failed else "":
        case "":
            return _change(report, primary, "the control")
        case "better than control":
            return _not_better(report, primary)
        case "not worse than live":
            return _not_as_good(report)
    return _broken(report, failed) if failed else ""


def _broken(report: Report, failed: Line) -> str:
    """What a rule found that no effect can mend, as a clause."""
    counts = report.counts
    match failed.rule:
        case "sample ratio":
            p_value = report.srm.p_value
            return "the split cannot be checked" if p_value is None else f"{_BROKEN} ({p_text(p_value)})"
        case "assignment":
            wrong = counted(counts["users_in_two_arms"] + counts.get("misassigned", 0), "user")
            return f"{_BROKEN}: {wrong} in two arms" + ("" if report.table else " or in another than the design says")
        case "arrivals":
            return "listeners of one arm came more often, which no recommendation can cause"
        case "before":
            return "the arms differed already before the experiment"
        case "logs":
            return "too many lines of the logs are malformed, or too many sessions unfinished"
    return _clause(failed.text.replace(": ", " ", 1))


def _change(report: Report, row: Comparison, other: str) -> str:
    """How much longer or shorter listeners stay."""
    effect = row.effect_percent or 0.0
    change = f"listeners stay {abs(effect):.1f} % {'longer' if effect >= 0 else 'shorter'} than with {other}"
    return f"with what was live, {change}" if _of_live_requests(report) else change


def _not_better(report: Report, primary: Comparison) -> str:
    _, low, high = percents(primary) or (0.0, 0.0, 0.0)
    least = report.rule.minimum_effect_percent if report.rule else 0.0
    if high < 0:
        return _change(report, primary, "the control")
    if low <= 0:
        return f"no difference from the control is shown ({_interval(primary)})"
    return f"not surely more than {percent(least)} against the control ({_interval(primary)})"


def _not_as_good(report: Report) -> str:
    row, margin = report.against_live, 100 * (report.margin or 0.0)
    measured = percents(row) if row else None
    if row is None or measured is None:
        return f"it cannot be compared with the live version, because {row.reason if row else 'no listener had it'}"
    if measured[2] < 0:
        return _change(report, row, "the live version")
    return f"more than {margin:g} % worse than the live version cannot be ruled out ({_interval(row)})"


def _size(report: Report) -> str:
    primary, live = report.deciding(), report.against_live
    if report.experiment is None:
        return f"No listener has met the model of {report.log_date}."
    if primary is None or percents(primary) is None:
        return ""
    means = [(primary.arm, primary.treatment_mean), (primary.control, primary.control_mean)]
    means += [(live.control, live.control_mean)] if live and live.control_mean is not None else []
    (first, mean), *others = ((label_of(report, arm), f"{mean or 0.0:,.2f}") for arm, mean in means)
    told = ", ".join(f"with {arm} {value}" for arm, value in others)
    return f"Sessions with {first} last {mean} tracks' worth of listening on average, {told}."


def _sure(report: Report) -> str:
    """The interval of the comparison that decided, and what else there is to say of it."""
    primary, live, failed = report.deciding(), report.against_live, _deciding(report)
    measured = percents(primary) if primary else None
    if primary is None or measured is None:
        return ""
    if failed and failed.rule in _TRUST:
        return "No figure of this report can be trusted until that is explained."
    if live and percents(live) and failed and failed.rule == LIVE:
        worse = f"More than {100 * (report.margin or 0.0):g} % worse must be ruled out."
        return f"{_lies('live version', live)} {worse} Against the control it is {_interval(primary)}."
    if report.watched:
        came = primary.control_users + primary.treatment_users
        so_far = f"{counted(came, 'listener')} of {report.watched.planned_users:,} planned ones came so far."
        return f"{_lies('control', primary)} That holds however often somebody has looked. {so_far}"
    chance = _chance(primary.p_value or 0.0)
    sure = f"{_lies('control', primary)} If the two were equal, a difference this large would come up in {chance} such tests."
    if measured[1] <= 0 <= measured[2] and primary.mde_percent is not None:
        sure += f" An effect of {primary.mde_percent:.1f} % or more would probably have been found."
    return f"{sure} Against the live version it is {_interval(live)}." if live else sure


def _lies(other: str, row: Comparison) -> str:
    _, low, high = percents(row) or (0.0, 0.0, 0.0)
    return f"The true effect against the {other} lies between {percent(low)} and {percent(high)} ({row.interval})."


def _outcome(report: Report) -> str:
    """What is live now, and how many rules fail."""
    rules, outcome = report.decision.rules, report.outcome
    failed = sum(not rule.ok for rule in rules)
    held = "Every rule holds." if rules else ""
    broken = f"{failed} of {counted(len(rules), 'rule')} {'fails' if failed == 1 else 'fail'}." if failed else held
    if outcome is None and report.log_date is None:
        return f"{broken} These logs belong to no night: this report promotes nothing."
    if outcome is None:
        return f"{broken} Nothing has been moved by this report; what comes of it is the night's last step.".strip()
    if outcome.verdict == "promoted":
        said = f"Version {outcome.version} serves the listeners from then on."
    else:
        said = f"{outcome.live} stays live." if outcome.live else "Nothing is live."
    return " ".join(filter(None, [said, broken, *(note for note in (GATE_ALONE,) if note in outcome.reasons)]))


def _of_live_requests(report: Report) -> bool:
    """Whether it reads the requests of real listeners, none of whom has met the candidate."""
    return report.log_date is not None and report.provenance.source.startswith(f"{Dated.LOGS}/")


def _interval(row: Comparison) -> str:
    measured = percents(row)
    if measured is None:
        return "not known"
    effect, low, high = map(percent, measured)
    return f"{effect}, {row.interval} {low} to {high}"


def _clause(sentence: str) -> str:
    """A sentence without its full stop, beginning small unless it begins with a name."""
    clause = sentence.removesuffix(".")
    return clause[:1].lower() + clause[1:] if clause[1:2].islower() or clause[1:2] == " " else clause


def _chance(p_value: float) -> str:
    """A p-value as so many of so many."""
    if p_value < 0.0001:
        return "fewer than 1 of 10,000"
    return f"about {10_000 * p_value:.0f} of 10,000" if p_value < 0.01 else f"about {100 * p_value:.0f} of 100"
