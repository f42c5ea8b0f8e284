"""Real listening data, where they are at hand (NIGHTSHIFT_BENCH_DATA)."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from recsys.catalog import load_tracks, number_of
from recsys.night.collect import collect
from recsys.night.night import Night
from tests.imports.test_nights import SPAN, finished, served
from tests.imports.test_nights import settings_of as night_settings
from tests.support.components import Valkey
from tests.support.imports import LASTFM, catalogue, imported, lines, needs_lastfm, plays, settings_in

pytestmark = needs_lastfm


def test_artists_of_two_thousand_listeners(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    path = LASTFM / "hetrec-user-artists.tsv"
    span = (date(2026, 1, 1), date(2026, 1, 7))
    card = imported(settings, path, user="userID", track="artistID", rating="weight", liked=100.0, dates=span)
    assert (card.rows, card.users, card.tracks, card.left_out) == (92_834, 1892, 17_632, {})
    frame = pd.read_csv(path, sep="\t")
    assert card.liked == int((frame["weight"] >= 100).sum())
    counts = collect(Night(span[1], settings))
    assert (counts["events"], counts["interactions"]) == (92_834, card.liked)
    own = load_tracks(settings.world).ids
    liked = {(record["user"], int(own[record["track"]] or "")) for record in plays(settings) if record["time"] > 0.8}
    assert liked == set(frame[frame["weight"] >= 100][["userID", "artistID"]].itertuples(index=False, name=None))


def test_plays_with_times(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    path = LASTFM / "plays-with-times.tsv"
    card = imported(settings, path, user="1", track="5", time="2", artist="4", title="6")
    columns = ["user", "time", "artist_id", "artist", "track", "title"]
    frame = pd.read_csv(path, sep="\t", names=columns, quoting=3, keep_default_na=False)
    assert (card.rows, card.plays, card.users) == (5000, 5000, 2)
    assert card.tracks == len(frame[["track", "artist", "title"]].drop_duplicates())
    days = pd.to_datetime(frame["time"]).dt.date.astype(str)
    assert {day: len(records) for day, records in lines(settings).items()} == days.value_counts().to_dict()
    assert {(r["user"], r.get("user_id")) for r in plays(settings)} == {(number_of(user), user) for user in frame["user"]}
    titles = [line["title"] for line in catalogue(settings)]
    first = lines(settings)[days.iloc[0]][-1]
    assert (titles[first["track"]], first["timestamp"]) == (frame["title"][0], pd.Timestamp(frame["time"][0]).value // 10**6)


@pytest.mark.marathon
def test_a_night_of_two_thousand_listeners(tmp_path: Path, valkey: Valkey) -> None:
    settings = night_settings(tmp_path, valkey)
    imported(settings, LASTFM / "hetrec-user-artists.tsv", user="userID", track="artistID", dates=SPAN)
    assert finished(settings, SPAN[1]) == "promoted"
    users = sorted(pd.read_csv(LASTFM / "hetrec-user-artists.tsv", sep="\t")["userID"].unique().tolist())
    assert sorted(served(settings, users)) == users


@pytest.mark.marathon
def test_plays_of_two_listeners_are_too_few_for_the_gate(tmp_path: Path, valkey: Valkey) -> None:
    settings = night_settings(tmp_path, valkey)
    imported(settings, LASTFM / "plays-with-times.tsv", user="1", track="5", time="2", artist="4", title="6")
    assert finished(settings, date(2009, 5, 4)) == "gate_refused"
