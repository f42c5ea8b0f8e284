"""``score.json``: what a model is worth, as types.

A session's time is the sum of the shares of its tracks that were heard, in tracks, the listener's own first track included.
"""

from typing import ClassVar

from pydantic import Field

from recsys.storage.document import Document, Part

#: What the mean over all worlds is called in the place of a world.
TOGETHER = "together"
#: Arms that every model is played against, by name, and what they are.
ARMS = {
    "C": "contextual neighbours",
    "T1": "the autoencoder's list",
    "oracle": "a policy that knows the world",
}


class Estimate(Part):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class SessionRow(Part):
    """Sessions of one arm in one world, or in all of them together.

    Attributes:
        world: its name, or :data:`TOGETHER`. arm: of :data:`ARMS`, or the model's label.
        time: mean session time. against: the difference to other arms on the same sessions, by arm.
        of_oracle: share of the oracle's mean. coverage: share of the catalogue in the lists, if there are some.
    """

    world: str
    arm: str
    time: Estimate
    against: dict[str, Estimate] = Field(default_factory=dict)
    of_oracle: float
    coverage: float | None = None


class HeldOutRow(Part):
    """Lists of listeners whom the model has not seen, on one data set.

    Attributes:
        users: how many, over all splits. ndcg_100, recall_20, recall_50: means over them.
        against: the difference of NDCG@100 to other models on the same listeners, by model.
        seconds: of fitting, the mean over splits. listing: of ranking. mib: the most memory that the process held.
        skipped: why there are no figures, "" if there are.
    """

    data: str
    model: str
    users: int = 0
    ndcg_100: Estimate | None = None
    recall_20: Estimate | None = None
    recall_50: Estimate | None = None
    against: dict[str, Estimate] = Field(default_factory=dict)
    seconds: float | None = None
    listing: float | None = None
    mib: float | None = None
    skipped: str = ""


class Worlds(Part):
    """What was played: how many worlds of which size, exploratory sessions to learn from and sessions that each arm played."""

    worlds: int
    tracks: int
    users: int
    explored: int
    played: int


class Score(Document):
    """``score.json``.

    Attributes:
        model: as it was named. label: what it is called in tables. code: digest of its sources. config: what it says of
            itself. arm: the name of its rows of sessions. notes: what is missing, and why.
        seconds: that the whole has taken. version: of the program.
    """

    FILE: ClassVar[str] = "score.json"

    model: str
    label: str
    code: str
    config: dict[str, object]
    arm: str
    worlds: Worlds
    sessions: list[SessionRow]
    held_out: list[HeldOutRow]
    notes: list[str]
    seconds: float
    version: str

    def session(self, world: str, arm: str) -> SessionRow:
        """The row of an arm in a world."""
        return next(row for row in self.sessions if (row.world, row.arm) == (world, arm))
