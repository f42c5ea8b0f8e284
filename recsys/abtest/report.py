"""The A/B report of any directory of logs: report.json, report.html and pictures.

In go request logs, Nightshift's or the original's; out comes a :class:`~recsys.abtest.schema.Report` and, if asked for, its
files. The same logs give the same report.json; what differs between two runs of the same night stands only in entries named
mean_request_time or latency_…, or is said by its type to depend on the surroundings. A night's own report is made by
:mod:`recsys.night.report`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from recsys.abtest.document import document_of
from recsys.abtest.page import write_page
from recsys.abtest.pictures import draw_all
from recsys.abtest.rule import load_rule
from recsys.abtest.schema import Provenance, Report
from recsys.abtest.sessions import ExperimentLog, read_before, read_log
from recsys.abtest.wording import counted
from recsys.exceptions import InvalidInputError
from recsys.experiments import Experiment


def analyse(
    logs: Path | Sequence[Path],
    experiment: str,
    control: str,
    treatments: Sequence[str] | None = None,
    *,
    live: str | None = None,
    promotion: Path | None = None,
    before: Path | Sequence[Path] | None = None,
    design: Experiment | None = None,
    shares: Mapping[str, float] | None = None,
    out: Path | None = None,
) -> Report:
    """Analyse one experiment of any request logs, Nightshift's or the original's.

    Args:
        logs: files or directories. experiment: its name in the records. control: name of the control arm.
        treatments: arms to test; all others by default. live: an arm that is the live version, for the non-inferiority rule.
        promotion: YAML file of the promotion rule. before: logs from before the experiment, which make its noise smaller.
        design: lets assignments and unequal shares be checked. shares: of the arms, where no design tells them; by default equal
            ones are expected. out: if given, the report's files are written there.

    Raises:
        InvalidInputError: no such experiment or arm, and the message names those there are; shares that do not name every arm;
            or most of the logs had to be left out.
    """
    found = read_log(logs, experiment, design)
    _require_most(found)
    declared = Counter(arm.name for arm in design.arms) if design else shares
    known = list(dict.fromkeys([*found.arms, *(declared or ())]))
    for arm in (control, *(treatments or ()), *([live] if live else [])):
        if arm not in known:
            raise InvalidInputError(f"arm {arm!r} is not in experiment {experiment!r}; its arms are {', '.join(known) or 'none'}")
    chosen = list(treatments) if treatments is not None else [arm for arm in known if arm not in (control, live)]
    if control in chosen or len(set(chosen)) != len(chosen):
        raise InvalidInputError(f"treatments {chosen} must be distinct and without the control {control!r}")
    if shares is not None and (unnamed := [arm for arm in known if arm not in shares]):
        raise InvalidInputError(f"shares are declared of {', '.join(shares)}, but not of {', '.join(unnamed)}; name every arm")
    earlier = None if before is None else read_before(before, found.first_ms)
    rule = load_rule(promotion)
    document = document_of(found, control, chosen, live, shares=declared or Counter(known), rule=rule, before=earlier)
    assignment = "recomputed from the hash" if design else "as logged; the hash was not recomputed"
    document = document.model_copy(update={"provenance": Provenance(source="given logs", assignment=assignment)})
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        document = write_report(out, document, found)
    return document


def _require_most(found: ExperimentLog) -> None:
    """See that at least half of the lines are records of the experiment."""
    malformed, outside = found.counts["malformed"], found.counts["outside"]
    total = found.counts["events"] + malformed
    if 2 * (malformed + outside) > total:
        others = counted(outside, "record of no arm of it", "records of no arm of it")
        raise InvalidInputError(
            f"{malformed + outside:,} of {total:,} lines do not belong to experiment {found.experiment!r} "
            f"({counted(malformed, 'malformed line')}, {others}), and the rest may well mislead; give the logs of the experiment"
        )


def write_report(directory: Path, report: Report, found: ExperimentLog | None) -> Report:
    """Write the report's files; gives it with its pictures, which need the log (None: as many as it has already)."""
    if found is not None:
        report = report.model_copy(update={"pictures": draw_all(report, found, directory)})
    report.write(directory)
    write_page(directory, report)
    return report
