"""Why a track was served: one answer, retold from the log and the lists that were published.

In go a directory of logs and the place of a request (user, session, step); out comes an :class:`Explanation`.
"""

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from recsys.exceptions import MissingDataError
from recsys.logs.upload import read_records
from recsys.service.session import SessionChooser
from recsys.storage.store import Storage
from recsys.versions.session_lists import SessionLists


@dataclass(frozen=True)
class Explanation:
    """One answered request.

    ``position`` counts from 1 in the user's list (dae), the neighbours of the previous track (contextual), the candidates of the
    session's first track before discounts (session) or the TOP 100;
    ``skipped`` are the entries before it (contextual: anywhere in the row) that the session had played already.
    """

    user: int
    session: int
    step: int
    track: int
    previous: int
    arm: str
    version: str
    source: str
    degraded: bool
    propensity: float
    played: tuple[int, ...]
    position: int | None = None
    skipped: tuple[int, ...] = field(default=())

    def lines(self) -> list[str]:
        """The same in sentences."""
        where = {
            "dae": "the user's list", "contextual": f"the neighbours of track {self.previous}", "top100": "the TOP 100",
            "session": "the candidates of the session's first track, discounted by their artists' plays",
        }  # fmt: skip
        told = [
            f"Track {self.track} was served to user {self.user} in session {self.session}, step {self.step}, after track "
            f"{self.previous}.",
            f"Arm {self.arm or 'none'}, version {self.version or 'none'}, source {self.source}"
            + (", degraded: Redis was away." if self.degraded else "."),
            f"The policy chooses it with probability {self.propensity:.6g}.",
        ]
        if self.source == "exploration":
            told.append("It was drawn at random from the tracks that the session had not played.")
        elif self.position is None:
            told.append(f"It is not in {where[self.source]} as published; everything there had been played, or it was degraded.")
        else:
            told.append(f"It is number {self.position} of {where[self.source]}.")
        skipped = ", ".join(map(str, self.skipped)) or "none"
        told.append(f"Skipped there because already played: {skipped}.")
        return told


def explain(store: Storage, logs: Path, user: int, session: int, step: int) -> Explanation:
    """Find the request in a directory of logs (searched with its sub-directories) and explain its answer.

    Raises:
        MissingDataError: the log has no such answered request.
    """
    plays: dict[int, dict[str, Any]] = {}
    for path in sorted(logs.rglob("*.jsonl")):
        for record in read_records(path):
            if record and record.get("user") == user and record.get("session") == session:
                plays.setdefault(record["step"], record)
    record = plays.get(step)
    if record is None or record["message"] != "next":
        raise MissingDataError(
            f"{logs} has no answered request of user {user}, session {session}, step {step}"
            + (f"; the session has steps 0 to {max(plays)}" if plays else "")
        )
    played = tuple(plays[s]["track"] for s in sorted(plays) if s <= step)
    source, track, previous = record["source"], record["recommendation"], record["track"]
    entries = _entries(store, record["version"], source, user, previous, played[0])
    position = entries.index(track) + 1 if track in entries else None
    before = entries[: position - 1] if position and source == "dae" else entries
    skipped = tuple(t for t in before if t in played)
    arm = next(iter(record["experiments"].values()), "")
    return Explanation(
        user, session, step, track, previous, arm, record["version"], source, record["degraded"], record["propensity"],
        played, position, skipped,
    )  # fmt: skip


def _entries(store: Storage, version: str, source: str, user: int, previous: int, first: int) -> list[int]:
    """What the version offered to this request, in order; empty where its files are gone."""
    if not version or source == "exploration":
        return []
    name = f"recommendations/date={date.fromisoformat(version[:10])}"
    if not store.is_complete(name):
        return []
    directory = store.local(name)
    if source == "top100":
        return list(orjson.loads((directory / "top_tracks.json").read_bytes()))
    if source == "contextual":
        table = np.load(directory / "neighbours.npy", mmap_mode="r", allow_pickle=False)
        return [int(t) for t in table[previous]]
    if source == "session":
        lists = SessionLists.from_bytes((directory / "sessions.npz").read_bytes())
        tastes = np.load(directory / "tastes.npy", allow_pickle=False)
        own = tastes[tastes[:, 0] == user, 2:].ravel()
        row = SessionChooser(lists).row(first, own[own >= 0].tolist())
        return [int(t) for t in lists.tracks[row]]
    with (directory / "recommendations.json").open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            if row["user"] == user:
                return list(row["tracks"])
    return []
