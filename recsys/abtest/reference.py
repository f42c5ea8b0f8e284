"""The reference version: the last one that was shown better, against which small losses cannot add up night after night.

In go the verdicts and reports of earlier nights; out comes the night of that version, and the candidate compared with it. The two
never met the same listeners: their lists are of different nights. Both were compared with the control of their own night, which
is made in the same way each night, so their effects against it are compared; that holds as far as the control's own worth has not
changed.
"""

import logging
import math
from dataclasses import replace
from datetime import date
from statistics import NormalDist

from recsys.abtest.analysis import CONFIDENCE, POWER, Comparison
from recsys.abtest.schema import Report, percents
from recsys.exceptions import CorruptDataError, InvalidInputError
from recsys.schemas import Verdict
from recsys.storage.layout import Dated, parse_date
from recsys.storage.store import Storage

log = logging.getLogger(__name__)


def last_shown_better(store: Storage, log_date: date, live: str) -> date | None:
    """The night, earlier than a log date, whose candidate was promoted and shown better than what was live, or was the first.

    A later version that a person took back does not count: only nights up to that of the live version do. None if there is none,
    or if it is the live version itself, with which the candidate is compared on the same night.

    Args:
        live: the live version; empty: none.
    """
    try:
        newest = parse_date(live[:10])
    except InvalidInputError:
        return None
    for day in sorted(store.dates(Dated.PROMOTIONS), reverse=True):
        if day > newest or day >= log_date:
            continue
        try:
            verdict, report = Verdict.find(store, day), Report.find(store, day)
        except CorruptDataError as error:
            log.warning("the night of %s is no reference: %s", day, error)
            continue
        if verdict and report and verdict.verdict == "promoted" and _is_better(report, verdict.version):
            return None if verdict.version == live else day
    return None


def _is_better(report: Report, version: str) -> bool:
    """Whether a report is of the version's own listeners, and shows it better than what was live, or than the control."""
    deciding = report.against_live or report.primary()
    own = report.version == version and report.provenance.source.startswith(f"{Dated.EXPERIMENTS}/")
    return own and deciding is not None and deciding.better


def against_reference(now: Comparison | None, then: Report) -> Comparison | None:
    """The candidate against the reference, by the effects of both against the controls of their nights; None without those.

    Effects are logarithms of ratios of means. The two nights deal their listeners independently, so the variances add up.
    """
    past = then.primary()
    measured, earlier = (percents(row) if row else None for row in (now, past))
    if now is None or past is None or measured is None or earlier is None or min(measured[1], earlier[1]) <= -100:
        return None
    (middle, low, high), (past_middle, past_low, past_high) = (
        [math.log1p(value / 100) for value in triple] for triple in (measured, earlier)
    )
    effect, half = middle - past_middle, math.hypot(high - low, past_high - past_low) / 2
    normal = NormalDist()
    quantile = normal.inv_cdf((1 + CONFIDENCE) / 2)
    return replace(
        now,
        control=then.version,
        role="reference",
        control_users=past.treatment_users,
        control_mean=None,
        treatment_mean=None,
        effect=None,
        ci_low=None,
        ci_high=None,
        effect_percent=100 * math.expm1(effect),
        ci_low_percent=100 * math.expm1(effect - half),
        ci_high_percent=100 * math.expm1(effect + half),
        p_value=2 * normal.cdf(-abs(effect) * quantile / half),
        p_adjusted=None,
        mde_percent=100 * math.expm1(half * (1 + normal.inv_cdf(POWER) / quantile)),
    )
