"""Nights on what was imported, without an experiment: from files to a verdict."""

import json
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from recsys.exceptions import UnavailableError
from recsys.imports.steps import import_botify
from recsys.inspection.verify import verify
from recsys.night import steps
from recsys.night.night import Night
from recsys.score import public_data
from recsys.settings import Settings, load_settings
from recsys.versions import keyspace, pointer, publish
from tests.support.components import Valkey
from tests.support.imports import imported, write_csv
from tests.support.night import write_world

pytestmark = [pytest.mark.slow, pytest.mark.real]

AT = 1_767_355_200_000  # 2026-01-02T12:00Z
DAY_MS = 86_400_000
SPAN = (date(2026, 1, 1), date(2026, 1, 7))


def settings_of(tmp_path: Path, valkey: Valkey) -> Settings:
    return load_settings(
        var=tmp_path / "var", redis_url=valkey.url, experiment_source="none", model="ease", gate_users=10
    )  # fmt: skip


def finished(settings: Settings, day: date) -> str:
    """The verdict of a night, whose artefacts are in order."""
    night = Night(day, settings)
    verdict = steps.run(night, run_id="first")
    assert verify(night).failures == []
    return verdict.verdict


def served(settings: Settings, users: list[int]) -> dict[int, list[int]]:
    client = keyspace.connect(settings)
    return dict(publish.served_lists(client, pointer.read(client).version, users))


def taste(place: int, day: int) -> list[int]:
    """Tracks that the listener of a place heard on a day: of the group that its place gives, another part each day."""
    return [place % 4 * 20 + (place // 4 + day * 5 + n) % 20 for n in range(5)]


def test_a_table_ends_promoted_and_a_later_one_too(tmp_path: Path, valkey: Valkey) -> None:
    settings = settings_of(tmp_path, valkey)
    rows = [
        [f"user {place}", f"song {track}", AT + day * DAY_MS + n * 60_000]
        for place in range(80)
        for day in range(3)
        for n, track in enumerate(taste(place, day))
    ]
    imported(settings, write_csv(tmp_path / "a.csv", ["user", "track", "at"], rows), time="at")
    assert finished(settings, date(2026, 1, 4)) == "promoted"
    more = [[who, "new" if n % 7 == 0 else track, at + 3 * DAY_MS] for n, (who, track, at) in enumerate(rows)]
    imported(settings, write_csv(tmp_path / "b.csv", ["user", "track", "at"], more), time="at")
    assert finished(settings, date(2026, 1, 7)) in ("promoted", "gate_refused")


def test_logs_of_the_original_end_green(tmp_path: Path, valkey: Valkey) -> None:
    settings = settings_of(tmp_path, valkey)
    write_world(settings.world, tracks=80, users=1)
    lines = []
    for place in range(80):
        for day in range(3):
            heard = taste(place, day)
            for n, track in enumerate(heard):
                at, message = AT + day * DAY_MS + place * 60_000 + n, "next" if track != heard[-1] else "last"
                lines.append({"message": message, "timestamp": at, "user": place, "track": track, "time": 0.9, "latency": 0.1})
    log = tmp_path / "data.json"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_botify(settings, [log])
    assert finished(settings, date(2026, 1, 4)) == "promoted"
    lists = served(settings, list(range(80)))
    assert all(tracks[0] // 20 == place % 4 for place, tracks in lists.items())


@pytest.mark.marathon
def test_films_and_their_ratings(tmp_path: Path, valkey: Valkey) -> None:
    try:
        path = public_data.ratings()
    except UnavailableError as error:
        pytest.skip(str(error))
    settings = settings_of(tmp_path, valkey).model_copy(update={"liked": "leave_out"})
    columns = {"user": "user_id:token", "track": "item_id:token", "rating": "rating:float", "liked": 4.0}
    card = imported(settings, path, **columns, dates=SPAN)
    assert (card.rows, card.users, card.liked) == (100_000, 943, 55_375)
    assert finished(settings, SPAN[1]) == "promoted"
    frame = pd.read_csv(path, sep="\t")
    first = int(frame["user_id:token"].iloc[0])
    own = {line["id"]: line["track"] for line in map(json.loads, (settings.world / "tracks.json").open())}
    liked = frame[(frame["user_id:token"] == first) & (frame["rating:float"] >= 4)]["item_id:token"]
    assert not {own[str(item)] for item in liked} & set(served(settings, [first])[first])
