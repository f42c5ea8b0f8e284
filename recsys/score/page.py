"""A score for people: a few lines for a terminal, and one HTML page that needs nothing else.

In goes a :class:`~recsys.score.document.Score`; out come text, and ``score.html`` beside ``score.json``.
"""

from collections.abc import Sequence
from pathlib import Path

from recsys.abtest.wording import counted
from recsys.score.document import ARMS, TOGETHER, Estimate, Score, SessionRow

PAGE = "score.html"


def headline(score: Score) -> str:
    """What came of it, in one sentence."""
    row = score.session(TOGETHER, score.arm)
    against = ", ".join(f"{interval(value, signed=True)} against {arm}" for arm, value in row.against.items() if arm != "oracle")
    return (
        f"{score.label}: sessions of {interval(row.time)} tracks; {against}; "
        f"{share(row.of_oracle)} of a policy that knows the world"
    )


def told(score: Score) -> str:
    """The page as plain text."""
    return "\n".join(
        [
            headline(score),
            "",
            sessions_caption(score),
            *_columns(session_table(score)),
            "",
            "held-out positives of listeners whom the model has not seen (strong generalisation)",
            *_columns(held_out_table(score)),
            "",
            *score.notes,
            f"{score.seconds:.0f} s",
        ]
    )


def sessions_caption(score: Score) -> str:
    """What the table of sessions holds."""
    w = score.worlds
    return (
        "session time in tracks, the listener's own first one included, with 95 % intervals over listeners; "
        f"{counted(w.worlds, 'world')} of {counted(w.tracks, 'track')} and {counted(w.users, 'listener')}, "
        f"{w.explored:,} exploratory sessions to learn from, "
        f"{counted(w.played, 'session')} an arm, the same for every arm"
    )


def session_table(score: Score) -> list[list[str]]:
    """Arms by worlds, and the model's differences, each a row of cells; the first row is the heading."""
    worlds = list(dict.fromkeys(row.world for row in score.sessions))
    arms = list(dict.fromkeys(row.arm for row in score.sessions))
    rows = [["", *worlds, "of the oracle", "catalogue"]]
    for arm in arms:
        found = [score.session(world, arm) for world in worlds]
        rows.append([arm_label(score, arm), *(interval(row.time) for row in found), *_shares(found[-1])])
    own = [score.session(world, score.arm) for world in worlds]
    for arm in own[0].against:
        rows.append([f"against {arm}", *(interval(row.against[arm], signed=True) for row in own), "", ""])
    return rows


def held_out_table(score: Score) -> list[list[str]]:
    """Models by data sets, each a row of cells; the first row is the heading."""
    rows = [["data", "model", "listeners", "NDCG@100", "against dae", "Recall@20", "Recall@50", "seconds", "MiB"]]
    for row in score.held_out:
        if row.skipped or row.ndcg_100 is None or row.recall_20 is None or row.recall_50 is None:
            rows.append([row.data, row.model, row.skipped])
            continue
        against = interval(row.against["dae"], 3, signed=True) if "dae" in row.against else ""
        recalls = [f"{value.value:.3f}" for value in (row.recall_20, row.recall_50)]
        cost = [f"{row.seconds:.1f}", f"{row.mib:.0f}"]
        rows.append([row.data, row.model, f"{row.users:,}", interval(row.ndcg_100, 3), against, *recalls, *cost])
    return rows


def arm_label(score: Score, arm: str) -> str:
    """An arm, and what it is."""
    return f"{arm}: {ARMS[arm]}" if arm in ARMS else f"{score.label}'s list"


def interval(value: Estimate, digits: int = 2, *, signed: bool = False) -> str:
    """A figure with its interval.

    >>> interval(Estimate(value=0.5, low=-0.25, high=1.25), signed=True)
    '+0.50 [−0.25, +1.25]'
    """
    mark = "+" if signed else ""
    middle, low, high = (f"{number:{mark}.{digits}f}".replace("-", "−") for number in (value.value, value.low, value.high))
    return f"{middle} [{low}, {high}]"


def share(value: float | None) -> str:
    """A share in per cent, or nothing."""
    return "" if value is None else f"{100 * value:.0f} %"


def write_page(directory: Path, score: Score) -> Path:
    """Write ``score.html`` into a directory that is there, and ``score.json`` beside it; gives the page's path."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("recsys.score", "."), PackageLoader("recsys.abtest", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables = {"sessions": session_table(score), "held_out": held_out_table(score)}
    page = environment.get_template("score.html.j2").render(
        score=score, said=headline(score), caption=sessions_caption(score), own=arm_label(score, score.arm), **tables
    )
    score.write(directory)
    (directory / PAGE).write_text(page, encoding="utf-8")
    return directory / PAGE


def _shares(row: SessionRow) -> list[str]:
    return [share(row.of_oracle), share(row.coverage)]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, the columns below one another."""
    full = max(map(len, rows))
    widths = [max(len(row[column]) for row in rows if len(row) == full) for column in range(full)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
