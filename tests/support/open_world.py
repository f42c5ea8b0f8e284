"""A platform whose listeners nobody has listed: a catalogue that grows and shrinks, and logs of real requests to learn from."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from recsys.catalog import TRACKS
from recsys.experiments import ORIGINAL, RunSpec
from recsys.storage.store import Storage

#: What listeners like: tracks of the same remainder as their place among the users.
GROUPS = 10
#: Listeners, by ids of all sizes.
USERS = [*range(7, 67), 2**32 - 1, 2**32, 2**40 + 1, 2**53 + 1, 2**63 - 2, 2**63 - 1]


def write_catalogue(world: Path, tracks: int, retired: Sequence[int] = (), ids: Mapping[int, str] | None = None) -> Path:
    """``tracks.json`` and nothing else; the artist of track t is t modulo 40."""
    world.mkdir(parents=True, exist_ok=True)
    lines = []
    for track in range(tracks):
        line: dict[str, str | int | bool] = {"artist": f"a{track % 40}", "title": f"t{track}", "track": track}
        if ids and track in ids:
            line["id"] = ids[track]
        if track in retired:
            line["available"] = False
        lines.append(json.dumps(line) + "\n")
    beside = world / f"{TRACKS}.new"
    beside.write_text("".join(lines))
    beside.replace(world / TRACKS)
    return world


def write_requests(
    store: Storage, day: date, tracks: Sequence[int], users: Sequence[int] = USERS, sessions: int = 6, seed: int = 0
) -> None:
    """``logs/date=D`` of real listeners, who heard some of these tracks: those of their group nearly to the end."""
    rng = np.random.default_rng([seed, day.toordinal()])
    by_group = [[track for track in tracks if track % GROUPS == group] for group in range(GROUPS)]
    lines = []
    for place, user in enumerate(users):
        arm, own = ORIGINAL.arm_of(user), by_group[place % GROUPS]
        for session in range(sessions):
            liked = rng.choice(own, min(4, len(own)), replace=False).tolist()
            others = [track for track in rng.choice(tracks, 3, replace=False).tolist() if track not in liked]
            heard = [liked[0], *others, *liked[1:]]
            for step, track in enumerate(heard):
                last = step == len(heard) - 1
                record = {
                    "message": "last" if last else "next",
                    "timestamp": 1_000_000 + 1000 * session + step,
                    "user": user,
                    "track": track,
                    "time": 0.9 if track % GROUPS == place % GROUPS else 0.2,
                    "latency": 0.001,
                    "recommendation": None if last else heard[step + 1],
                    "experiments": {ORIGINAL.name: arm.name},
                    "run": "live",
                    "version": "",
                    "session": day.toordinal() * 100 + session,
                    "step": step,
                    "event": None,
                    "source": None if last else arm.recommender,
                    "degraded": False,
                    "propensity": None if last else 0.5,
                }
                lines.append(json.dumps(record) + "\n")
    with store.stage(f"logs/date={day}", {"next": len(lines) - len(users) * sessions, "last": len(users) * sessions}) as staging:
        (staging / "a.jsonl").write_text("".join(lines))
        RunSpec("live", "", 0.0, 1, ORIGINAL, len(tracks)).write(staging)
