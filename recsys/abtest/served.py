# ruff: noqa: S608 - only names of this module and numbers are put into SQL; every value is a parameter
"""What each user was served, from the events of :mod:`recsys.abtest.queries`: counts for guardrails, and latency by arm.

In goes a connection with the tables ``events``, ``people`` and ``raw``; out come a row a user, which guardrails are tested by,
and quantiles of latency with intervals that count users, not requests.
"""

from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from recsys.abtest.metrics import Column, Columns, Ints

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Quantiles of latency by the name of their guardrail.
QUANTILES = {"latency_p50": 0.5, "latency_p99": 0.99}
#: Fewer users than these give no interval of a quantile.
FEWEST = 20

#: An interval in ms, by arm and by the guardrail's name.
Intervals = Mapping[str, Mapping[str, tuple[float, float]]]


def served_columns(db: "DuckDBPyConnection", arms: tuple[str, ...]) -> Columns:
    """Answers of each user, [users] by name, users ascending: ``arm`` (a place in ``arms``), and counts of answers.

    ``sourced`` tell their source, ``fallback`` of these came from the TOP 100; ``known`` tell whether the store was there,
    ``degraded`` of these that it was not.
    """
    found = db.execute(
        """SELECT list_position($arms, arm) - 1 AS arm, "user", sum(sourced)::BIGINT AS sourced,
             sum(fallback)::BIGINT AS fallback, sum(known)::BIGINT AS known, sum(degraded)::BIGINT AS degraded
           FROM (
             SELECT people.arm, "user", count(source) AS sourced,
               count(*) FILTER (source IN ('top100', 'newcomer_top100')) AS fallback,
               count(degraded) AS known, count(*) FILTER (degraded) AS degraded
             FROM events JOIN people USING ("user") WHERE NOT is_last GROUP BY people.arm, "user"
             UNION ALL
             -- Answers without Redis have no session, and so are no events.
             SELECT arm, "user", 0, 0, count(*), count(*) FROM raw
             WHERE alone AND NOT is_last AND arm IN (SELECT unnest($arms)) GROUP BY arm, "user"
           ) GROUP BY arm, "user" ORDER BY "user", arm""",
        {"arms": list(arms)},
    ).fetchnumpy()
    users: dict[str, Column] = {name: np.asarray(column, dtype=np.int64) for name, column in found.items()}
    return users


def latency_intervals(
    db: "DuckDBPyConnection", values: Mapping[str, Mapping[str, float | None]], *, confidence: float = 0.95
) -> Intervals:
    """Intervals of the quantiles of latency, clustered by user; none where too few users or requests tell one.

    The share of requests that are as fast as the quantile is a ratio of sums over users, whose error the delta method gives; the
    interval reaches from the quantile that lies so much lower to the one that lies so much higher (Deng, Knoblich and Lu 2018,
    section 4). Requests of one user resemble each other: an interval of independent requests would be too short.

    Args:
        values: the quantiles in ms, by arm and name.
    """
    arms = [arm for arm in sorted(values) if all(values[arm].get(name) is not None for name in QUANTILES)]
    if not arms:
        return {}
    mine = (
        """events JOIN people USING ("user") WHERE people.arm IN (SELECT unnest($arms)) AND NOT is_last AND latency IS NOT NULL"""
    )
    below = ", ".join(
        f"count(*) FILTER (latency <= list_extract(${name}, list_position($arms, people.arm))) AS {name}" for name in QUANTILES
    )
    limits = {name: [1e6 * (values[arm][name] or 0.0) for arm in arms] for name in QUANTILES}
    users = db.execute(
        f"""SELECT list_position($arms, people.arm) - 1 AS arm, count(*) AS requests, {below} FROM {mine}
            GROUP BY people.arm, "user" ORDER BY people.arm, "user" """,
        {"arms": arms, **limits},
    ).fetchnumpy()
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    edges: dict[tuple[str, str], tuple[float, float]] = {}
    for number, arm in enumerate(arms):
        here = users["arm"] == number
        for name, at in QUANTILES.items():
            part, whole = (np.asarray(users[column])[here] for column in (name, "requests"))
            half = z * _error_of_share(part, whole)
            if here.sum() >= FEWEST and half < min(at, 1 - at):
                edges[arm, name] = at - half, at + half
    if not edges:
        return {}
    wanted = sorted({edge for pair in edges.values() for edge in pair})
    rows = db.execute(
        f"SELECT people.arm, quantile_cont(latency, {wanted}) FROM {mine} GROUP BY people.arm", {"arms": arms}
    ).fetchall()
    found = {arm: dict(zip(wanted, ends, strict=True)) for arm, ends in rows}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for (arm, name), (low, high) in edges.items():
        intervals.setdefault(arm, {})[name] = found[arm][low] / 1e6, found[arm][high] / 1e6
    return intervals


def _error_of_share(part: Ints, whole: Ints) -> float:
    """Standard error of sum(part) / sum(whole) over users, by the delta method."""
    share = part.sum() / whole.sum()
    return float(np.sqrt(((part - share * whole) ** 2).sum() / max(1, len(whole) - 1) / len(whole)) / whole.mean())
