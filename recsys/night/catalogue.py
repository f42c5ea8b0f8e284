"""The catalogue of a log date: the world's tracks as they were when traffic or a night first touched the date.

In goes a night; out comes ``catalogue/date=D`` with ``tracks.json``, a copy, and ``catalogue.json``
(:class:`recsys.schemas.DatedCatalogue`). Reruns, backfills and rebuilds of D keep the copy, and everything of the night reads it
instead of the world: the same date gives the same night however the catalogue has grown since.
"""

import logging
import shutil
from collections.abc import Iterable
from datetime import date
from typing import TypedDict

from recsys.catalog import TRACKS, USERS, Catalogue, load_tracks, read_tracks
from recsys.exceptions import CorruptDataError, WorldError
from recsys.night.night import Night
from recsys.schemas import DatedCatalogue
from recsys.storage.layout import Dated
from recsys.storage.manifest import sha256

log = logging.getLogger(__name__)


def dated(night: Night) -> DatedCatalogue:
    """What the log date's catalogue is; takes the copy if there is none yet.

    Raises:
        WorldError: the world's catalogue cannot be read, or is not that of the dates before and after with tracks appended or
            retired; the message names track and date.
    """
    if not night.store.is_complete(night.catalogue):
        _take(night)
    return DatedCatalogue.read(night.store, night.log_date)


class Players(TypedDict):
    """How many of the world's listeners play, from the first line on, and with how many of its tracks; 0: all."""

    listeners: int
    tracks: int


def players(night: Night) -> Players:
    """Who has played the log date: all, on dates from before there were copies."""
    found = DatedCatalogue.find(night.store, night.log_date)
    return {"listeners": (found and found.listeners) or 0, "tracks": found.tracks if found else 0}


def tracks_of(night: Night) -> Catalogue:
    """The tracks of the log date; takes the copy if there is none yet.

    Raises:
        WorldError: as :func:`dated`. CorruptDataError: the copy has been damaged.
    """
    dated(night)
    return _read(night, night.log_date)


def checksum_of(night: Night) -> str:
    """Hexadecimal SHA-256 of the log date's catalogue."""
    return night.store.manifest(night.catalogue).checksum


def _take(night: Night) -> None:
    source = night.world / TRACKS
    counts: dict[str, int] = {}
    with night.store.stage(night.catalogue, counts) as staging:
        # A world that grows changes its users last: counted first, they are not more than those of the copied tracks.
        listeners = _listeners(night)
        copy = staging / TRACKS
        try:
            shutil.copyfile(source, copy)
            found = read_tracks(copy)
        except (OSError, WorldError):
            load_tracks(night.world)  # raises the same, by the name of the world's file
            raise
        days = night.store.dates(Dated.CATALOGUES)
        _compare(night, found, sha256(copy), reversed([day for day in days if day < night.log_date]))
        _compare(night, found, sha256(copy), (day for day in days if day > night.log_date))
        taken = DatedCatalogue(tracks=found.size, retired=tuple(sorted(found.retired)), listeners=listeners)
        taken.write(staging)
        counts |= {"tracks": taken.tracks, "retired": len(taken.retired)}
    log.info("%s: %d tracks, %d of them retired", night.catalogue, taken.tracks, len(taken.retired))


def _listeners(night: Night) -> int | None:
    try:
        with (night.world / USERS).open("rb") as file:
            return sum(1 for line in file if line.strip())
    except FileNotFoundError:
        return None


def _compare(night: Night, found: Catalogue, checksum: str, days: Iterable[date]) -> None:
    """See that a catalogue and the copy of the first of the days that can be read are one that has grown.

    Of a date before, it has grown since. A date after may have more tracks: of a world that was restored, say.
    """
    source = night.world / TRACKS
    for day in days:
        name = Dated.CATALOGUES.on(day)
        try:
            if any(file.sha256 == checksum for file in night.store.manifest(name).files):
                return
            other = _read(night, day)
        except CorruptDataError as error:
            log.warning("the catalogue was not compared with that of %s: %s", day, error)
            continue
        if day > night.log_date and other.size > found.size:
            other.check_grown_from(found, f"{name}/{TRACKS}", f"in {source}")
        else:
            found.check_grown_from(other, source, f"on {day}")
        return


def _read(night: Night, day: date) -> Catalogue:
    return read_tracks(night.store.local(Dated.CATALOGUES.on(day)) / TRACKS)
