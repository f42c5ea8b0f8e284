"""Why a track was served: one answer, retold from the log and the lists that were published.

In go a directory of logs and the place of a request (user, session, step); out comes an :class:`Explanation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from recsys.catalog import number_of
from recsys.exceptions import MissingDataError
from recsys.logs.record import Record, answer, log_files, records
from recsys.service.session import SessionChooser
from recsys.storage.store import Storage
from recsys.versions.content import LISTS, directory_of, lists_in
from recsys.versions.session_lists import SessionLists


@dataclass(frozen=True)
class Explanation:
    """One answered request.

    ``position`` counts from 1 in the user's list (dae), the neighbours of the previous track (contextual), the candidates of the
    session's first track before discounts (session) or the TOP 100;
    ``skipped`` are the entries before it (contextual: anywhere in the row) that the session had played already; ``kept`` tells
    whether the version's lists are still in the storage.
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
    propensity: float | None
    played: tuple[int, ...]
    kept: bool = True
    position: int | None = None
    skipped: tuple[int, ...] = field(default=())

    def lines(self) -> list[str]:
        """The same in sentences."""
        offer = self.source.removeprefix("newcomer_")
        places = {
            "dae": "the user's list",
            "contextual": f"the neighbours of track {self.previous}",
            "top100": "the TOP 100",
            "session": "the candidates of the session's first track, discounted by their artists' plays",
        }
        place = places.get(offer, offer)
        told = [
            f"Track {self.track} was served to user {self.user} in session {self.session}, step {self.step}, after track "
            f"{self.previous}.",
            f"Arm {self.arm or 'none'}, version {self.version or 'none'}, source {self.source}"
            + (", degraded: Redis was away." if self.degraded else "."),
        ]
        if offer != self.source:
            told.append("The version has no list of the user.")
        if self.propensity is not None:
            told.append(f"The policy chooses it with probability {self.propensity:.6g}.")
        if not self.kept:
            return [*told, f"The lists of {self.version} are not in the storage any more, so its place among them is not known."]
        if self.source == "exploration":
            told.append("It was drawn at random from the tracks that the session had not played.")
        elif self.position is None:
            told.append(f"It is not in {place} as published; everything there had been played, or it was degraded.")
        else:
            told.append(f"It is number {self.position} of {place}.")
        skipped = ", ".join(map(str, self.skipped)) or "none"
        told.append(f"Skipped there because already played: {skipped}.")
        return told


def explain(store: Storage, logs: Path, user: int | str, session: int, step: int) -> Explanation:
    """Find the request in a directory of logs (searched with its sub-directories) and explain its answer.

    Args:
        user: as the service knows them, or what they are called if that is a text.

    Raises:
        MissingDataError: the log has no such answered request. InvalidInputError: nobody can be called so.
    """
    called, user = user, number_of(user) if isinstance(user, str) else user
    plays: dict[int, Record] = {}
    for path in log_files(logs, "**/*.jsonl"):
        for record in records(path):
            if not isinstance(record, str) and record["user"] == user and record["session"] == session:
                plays.setdefault(record["step"], record)
    found = plays.get(step)
    if found is None or found["message"] != "next":
        raise MissingDataError(
            f"{logs} has no answered request of user {called}, session {session}, step {step}"
            + (f"; the session has steps 0 to {max(plays)}" if plays else "")
        )
    track, propensity = answer(found)
    if track is None:
        raise MissingDataError(f"the log does not say what user {user} was answered in session {session}, step {step}")
    played = tuple(plays[s]["track"] for s in sorted(plays) if s <= step)
    version, source, previous = found.get("version", ""), found.get("source") or "", found["track"]
    entries, kept = _entries(store, version, source.removeprefix("newcomer_"), user, played)
    position = entries.index(track) + 1 if track in entries else None
    before = entries[: position - 1] if position and source == "dae" else entries
    skipped = tuple(t for t in before if t in played)
    return Explanation(
        user=user,
        session=session,
        step=step,
        track=track,
        previous=previous,
        arm=next(iter(found.get("experiments", {}).values()), ""),
        version=version,
        source=source,
        degraded=found.get("degraded", False),
        propensity=propensity,
        played=played,
        kept=kept,
        position=position,
        skipped=skipped,
    )


def _entries(store: Storage, version: str, source: str, user: int, played: Sequence[int]) -> tuple[list[int], bool]:
    """What the version offered to a session of these plays, in order, and whether its files are there."""
    if not version or source == "exploration":
        return [], True
    try:
        directory = directory_of(store, version)
    except MissingDataError:
        return [], False
    if source == "top100":
        return list(orjson.loads((directory / "top_tracks.json").read_bytes())), True
    if source == "contextual":
        path, previous = directory / "neighbours.npy", played[-1]
        table = np.load(path, mmap_mode="r", allow_pickle=False) if path.exists() else np.zeros((0, 0), np.uint32)
        # Tracks that the version does not know may have neighbours in the world's files.
        return [int(t) for t in table[previous]] if previous < len(table) else [], True
    if source == "session":
        lists = SessionLists.from_bytes((directory / "sessions.npz").read_bytes())
        tastes = np.load(directory / "tastes.npy", allow_pickle=False)
        own = tastes[tastes[:, 0] == user, 2:].ravel()
        chooser = SessionChooser(lists)
        row = chooser.row(next(t for t in played if t < chooser.size), own[own >= 0].tolist())
        return [int(t) for t in lists.tracks[row]], True
    return next((tracks for listed, tracks in lists_in(directory / LISTS) if listed == user), []), True
