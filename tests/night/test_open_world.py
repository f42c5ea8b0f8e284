"""Nights of listeners whom no list names, on a catalogue that grows and shrinks: from logs to a verdict, in this process."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys import frames
from recsys.cli import app
from recsys.inspection.verify import verify
from recsys.night import steps, traffic
from recsys.night.dry_run import dry_run
from recsys.night.night import Night
from recsys.schemas import DatedCatalogue, Inputs
from recsys.settings import Settings, load_settings
from recsys.versions import keyspace, pointer, publish
from recsys.versions.content import LISTS, lists_in, read_directory
from tests.support.components import Valkey
from tests.support.night import DAY
from tests.support.open_world import GROUPS, USERS, write_catalogue, write_requests

pytestmark = [pytest.mark.slow, pytest.mark.real]

TRACKS = 200


def settings_of(tmp_path: Path, valkey: Valkey, **more: Any) -> Settings:
    return load_settings(var=tmp_path / "var", world=tmp_path / "world", redis_url=valkey.url, experiment_source="live", **more)


def finished(settings: Settings, attempt: str = "first", back: int = 0, **more: Any) -> Night:
    """The night of a date, from its logs to its verdict."""
    night = Night(DAY - timedelta(days=back), settings)
    verdict = steps.run(night, run_id=f"{attempt}-{back}", **more)
    assert verdict.verdict != "gate_refused", verdict.reasons
    return night


def lists_of(night: Night) -> dict[int, list[int]]:
    return dict(lists_in(night.store.local(night.recommendations) / LISTS))


def everything_answered(night: Night) -> set[int]:
    """Every track that any part of a night's version may answer with."""
    content = read_directory(night.store.local(night.recommendations))
    table = np.array(keyspace.unpack(content.neighbours)).reshape(-1, 20)
    neighbours = table[table != np.arange(len(table))[:, None]]
    found = {*keyspace.unpack(content.top), *neighbours.tolist(), *(t for tracks in lists_of(night).values() for t in tracks)}
    if content.sessions:
        with np.load(night.store.local(night.recommendations) / "sessions.npz") as saved:
            found |= set(saved["tracks"].ravel().tolist())
    return found


def test_everything_works_without_a_list_of_users(tmp_path: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, valkey, session_arm=True)
    world, store = write_catalogue(settings.world, TRACKS), Night(DAY, settings).store
    for back in (2, 1, 0):
        write_requests(store, DAY - timedelta(days=back), range(TRACKS))
    assert dry_run(Night(DAY, settings))["tracks"] == f"{TRACKS}, to be copied for this date"
    night = finished(settings)
    assert not (world / "users.json").exists()
    assert verify(night).failures == []
    assert dry_run(night)["tracks"] == f"{TRACKS}, as copied for this date"
    client = keyspace.connect(settings)
    live = pointer.read(client).version
    assert live.startswith(str(DAY))
    served = publish.served_lists(client, live, USERS)
    assert served == lists_of(night)
    assert list(served)
    assert sorted(served) == USERS
    share = [np.mean([track % GROUPS == place % GROUPS for track in served[user][:10]]) for place, user in enumerate(USERS)]
    assert np.mean(share) > 0.8
    tastes = np.load(store.local(night.recommendations) / "tastes.npy")
    assert (tastes.dtype, tastes[:, 0].tolist()) == (np.int64, USERS)
    assert frames.lists(DAY, storage=store.url).user.unique().tolist() == USERS
    assert sorted(frames.sessions(DAY, storage=store.url).user.unique().tolist()) == USERS
    files = store.local(night.recommendations)
    monkeypatch.setenv("RECSYS_VAR", str(settings.var))
    monkeypatch.setenv("RECSYS_REDIS_URL", valkey.url)
    words = ["publish", "--recommendations", str(files / LISTS), "--top", str(files / "top_tracks.json")]
    app([*words, "--neighbours", str(files / "neighbours.npy"), "--no-promote", "--world", str(world)], standalone_mode=False)


def test_a_night_is_the_same_after_the_catalogue_has_grown(tmp_path: Path, valkey: Valkey) -> None:
    settings = settings_of(tmp_path, valkey)
    store, grown = Night(DAY, settings).store, TRACKS + TRACKS // 10
    write_catalogue(settings.world, TRACKS)
    for back in (4, 3, 2):
        write_requests(store, DAY - timedelta(days=back), range(TRACKS))
    before = finished(settings, back=2)
    parts = verify(before).parts
    assert parts["verdict"] == "promoted"
    write_catalogue(settings.world, grown, retired=[3, 14])
    newcomers = [10**12 + place for place in range(10)]
    for back in (1, 0):
        tracks = [track for track in range(grown) if track not in (3, 14)]
        write_requests(store, DAY - timedelta(days=back), tracks, [*USERS[:60], *newcomers])
    for rebuild in (False, True):
        again = finished(settings, f"again-{rebuild}", back=2, rebuild=rebuild)
        assert verify(again).parts == parts
        assert verify(again).failures == []
    night = finished(settings)
    assert verify(night).failures == []
    answered = everything_answered(night)
    assert {t for t in answered if t >= TRACKS}, "new tracks are listed"
    assert not answered & {3, 14}
    assert {3, 14} <= everything_answered(before)
    assert set(newcomers) <= set(lists_of(night))
    assert DatedCatalogue.read(store, night.log_date) == DatedCatalogue(tracks=grown, retired=(3, 14))
    assert Inputs.read(store, night.log_date).catalogue == store.manifest(night.catalogue).checksum


def test_retired_tracks_are_answered_by_no_part_of_a_version(tmp_path: Path, valkey: Valkey) -> None:
    settings = settings_of(tmp_path, valkey, session_arm=True)
    write_catalogue(settings.world, TRACKS, retired := range(0, 60))
    for back in (2, 1, 0):
        write_requests(Night(DAY, settings).store, DAY - timedelta(days=back), range(TRACKS))
    night = finished(settings)
    assert not everything_answered(night) & set(retired)
    assert night.store.manifest(night.interactions).counts["unknown_tracks"] == 0
    table = np.load(night.store.local(night.recommendations) / "neighbours.npy")
    own = table[0] % GROUPS == 0
    assert own.mean() > 0.6, "a retired track has neighbours still"
    planned = traffic.plan(Night(DAY + timedelta(days=1), settings.model_copy(update={"experiment_source": "simulate"})))
    assert json.loads(keyspace.connect(settings).get(keyspace.run_key(planned["base"])))["retired"] == list(retired)


def test_what_was_liked_is_left_out_where_that_is_wanted(tmp_path: Path, valkey: Valkey) -> None:
    settings = settings_of(tmp_path, valkey)
    write_catalogue(settings.world, TRACKS)
    for back in (2, 1, 0):
        write_requests(Night(DAY, settings).store, DAY - timedelta(days=back), range(TRACKS), sessions=2)
    liked = set(frames_of_likes(night := finished(settings)))
    listed = {(user, track) for user, tracks in lists_of(night).items() for track in tracks}
    assert len(listed & liked) > 100
    night = finished(settings.model_copy(update={"liked": "leave_out"}), "again")
    listed = {(user, track) for user, tracks in lists_of(night).items() for track in tracks}
    assert not listed & liked
    assert {len(tracks) for tracks in lists_of(night).values()} == {50}
    assert verify(night).failures == []


def frames_of_likes(night: Night) -> list[tuple[int, int]]:
    table = frames.interactions(night.log_date, storage=night.store.url)
    return list(zip(table.user.tolist(), table.track.tolist(), strict=True))


def test_lists_are_as_long_as_what_is_available(tmp_path: Path, valkey: Valkey) -> None:
    settings = settings_of(tmp_path, valkey, liked="leave_out")
    write_catalogue(settings.world, 70, range(25))
    for back in (2, 1, 0):
        write_requests(Night(DAY, settings).store, DAY - timedelta(days=back), range(70), sessions=1)
    night = finished(settings)
    liked = set(frames_of_likes(night))
    for user, tracks in lists_of(night).items():
        left = {track for track in range(25, 70) if (user, track) not in liked}
        assert set(tracks) == left
        assert len(tracks) == len(left)
    assert verify(night).failures == []
