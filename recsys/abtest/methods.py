"""How a report's numbers were made, in words: which test, and which adjustment was applied to what.

In go the comparisons of a report; out come sentences by what they are about, which stand in report.json and on the page.
"""

from collections.abc import Sequence

from recsys.abtest.analysis import POWER, Adjusted, Comparison
from recsys.abtest.trust import Winsorised
from recsys.abtest.watch import Watched
from recsys.abtest.wording import counted


def methods_of(
    compared: Sequence[Comparison],
    adjusted: Sequence[Adjusted],
    winsorised: Winsorised | None,
    earlier: str,
    *,
    guardrails: int = 0,
    watched: Watched | None = None,
) -> dict[str, str]:
    """The methods behind the comparisons of an experiment.

    Args:
        earlier: what is known of the users from before the experiment, for people. guardrails: how many were tested.
        watched: the comparison that decides where one looks every night.
    """
    family = [row for row in compared if row.p_adjusted is not None]
    tested = counted(len(family), "comparison")
    welch = "Welch's t-test of users' values as they are, two-sided, without CUPED and winsorising."
    deciding = {"deciding effect": welch} if watched is None else {"deciding effect": _watched(watched), "for one look": welch}
    found = {
        **deciding,
        "relative intervals": "Delta method: of the logarithm of the ratio of two means, the control's mean is estimated, too.",
        "ratios of sums": "Delta method on users (Deng, Knoblich and Lu 2018).",
        "several metrics": f"Holm over {tested} (column Adjusted)." if len(family) > 1 else "No correction: one comparison.",
        "less noise": _cuped(adjusted, earlier),
        "extreme values": _winsorised(winsorised),
    }
    if guardrails:
        kind = "intervals of confidence sequences" if watched else "intervals"
        beta = 100 * (1 - POWER) / (guardrails + 1)
        found["guardrails"] = (
            f"Non-inferiority by 95 % {kind}, uncorrected, since all must hold; margins shown at beta {beta:.2g} % each "
            f"({counted(guardrails, 'test')} and the deciding effect share {100 * (1 - POWER):.0f} %)."
        )
    return found


def _watched(row: Watched) -> str:
    return (
        "Asymptotic confidence sequence of the logarithm of the ratio of means (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas "
        f"2021) on the users since the experiment began, narrowest at {row.planned_users:,} users of the two arms, as was fixed "
        "on its first day; without CUPED and winsorising."
    )


def _cuped(adjusted: Sequence[Adjusted], earlier: str) -> str:
    names = ", ".join(row.label for row in adjusted if row.correlation is not None)
    if names:
        return f"CUPED of {names}, in rows of their own, with {earlier} before the experiment."
    return "No adjustment: " + ("nothing is known of the users from before." if not adjusted else "CUPED gave no result.")


def _winsorised(row: Winsorised | None) -> str:
    if row is None:
        return "No row of its own: the metric is a ratio of sums, or no share is declared."
    if row.low is None or row.high is None:
        return f"Winsorised at {100 * row.share:g} % of each end; it gave no result."
    return (
        f"A row of its own, winsorised: {100 * row.share:g} % of the users at each end, as the rule declares, drawn in to "
        f"{row.low:,.4g} and {row.high:,.4g} ({counted(row.moved, 'user')} changed)."
    )
