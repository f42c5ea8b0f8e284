"""What an arm would answer now: in go its version, the user's list and the session; out come equally likely tracks.

The arm's own recommender comes first, then the TOP 100; where neither has an unplayed track, there are no candidates and any
available track may follow. A listener whom a version does not know has no list there: for those there is an order of their own.
"""

from array import array
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from recsys.experiments import Arm
from recsys.service.choose import Candidates, Stock, from_any, from_list
from recsys.service.state import LISTED, NEWCOMERS, Version
from recsys.versions import keyspace


def candidates(
    arm: Arm | None,
    version: Version,
    listed: "array[int]",
    plays: Sequence[int],
    played: AbstractSet[int],
    stock: Stock,
    newcomers: Sequence[str] = NEWCOMERS,
) -> Candidates:
    """The candidates of an arm; without an arm, a version that has lists by first track answers by them.

    Args:
        listed: the user's tracks and taste, as published; empty if the version has none, or the arm wants none.
        plays: track and time of each play of the session, one after another. played: its tracks.
        stock: tracks that it bars are left out. newcomers: an end of :data:`recsys.service.state.NEWCOMERS`.
    """
    recommender = arm.recommender if arm else "session"
    if not listed and version.name and recommender in LISTED:
        return _of_newcomer(version, plays, played, stock, newcomers)
    barred = stock.barred
    listed, taste = keyspace.split(listed)
    found: Candidates | None = None
    if recommender == "session" and version.sessions:
        found = version.sessions.best(plays, played, taste, barred)
    if recommender in LISTED:
        found = found or from_list(listed, played, barred, "dae")
    elif recommender == "contextual":
        found = from_any(version.near(plays[-2]), played, barred, "contextual")
    return found or from_any(version.top, played, barred, "top100") or Candidates((), "top100")


def _of_newcomer(
    version: Version, plays: Sequence[int], played: AbstractSet[int], stock: Stock, newcomers: Sequence[str]
) -> Candidates:
    found: Candidates | None = None
    for way in newcomers:
        if way == "session":
            found = version.sessions.best(plays, played, (), stock.barred) if version.sessions else None
        else:
            tracks = version.near(plays[-2]) if way == "contextual" else version.top
            found = from_any(tracks, played, stock.barred, way)
        if found:
            return Candidates(found.tracks, f"newcomer_{way}")
    return Candidates((), "newcomer_top100")
