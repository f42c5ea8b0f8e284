"""Who gets a rollout's candidate instead of what is live: the fields of the rollout in Redis in, a :class:`Offer` out."""

from typing import NamedTuple

from recsys.experiments import Split
from recsys.service.link import Reply
from recsys.versions import keyspace

#: The command that gives the fields.
ASK = ("HMGET", keyspace.ROLLOUT, "experiment", "candidate", "live", "share", "state")


class Offer(NamedTuple):
    """The split of the rollout under way, if there is one, and the candidate that nobody may get any more ("" for none)."""

    split: Split | None = None
    withdrawn: str = ""

    @classmethod
    def of(cls, reply: Reply, live: str) -> "Offer":
        """What Redis says.

        Args:
            live: what is live; a candidate that was compared with something else is offered to nobody.

        Raises:
            ValueError: the fields are no rollout's.
        """
        if not isinstance(reply, list):
            raise ValueError(f"{reply!r:.100} where the fields of a rollout must stand")
        experiment, candidate, compared, share, state = ((field or b"").decode() for field in reply)
        if state == "aborted":
            return cls(None, candidate)
        percent = float(share or 0)
        return cls(Split(experiment, candidate, compared, percent)) if percent > 0 and compared == live != candidate else cls()
