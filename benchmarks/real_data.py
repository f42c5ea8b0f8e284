"""Real listening data as matrices of positives, beside those of :mod:`recsys.score.public_data`: files of Last.fm in.

``NIGHTSHIFT_BENCH_DATA`` names the directory with ``hetrec-user-artists.tsv`` (HetRec 2011: userID, artistID, weight) and
``plays-with-times.tsv`` (user, time, artist's id and name, track's id and name, no header); unset, it is ``shared/data/lastfm``
beside the checkout.
"""

import os
from pathlib import Path

import pandas as pd
from scipy.sparse import csr_matrix

from benchmarks.processes import ROOT
from recsys.exceptions import InvalidInputError
from recsys.score import public_data

#: Minutes without a play that end a session.
GAP = 30


def directory() -> Path:
    """Where the files of Last.fm are.

    Raises:
        InvalidInputError: they are not there.
    """
    found = Path(os.environ.get("NIGHTSHIFT_BENCH_DATA") or ROOT.parent / "shared" / "data" / "lastfm")
    if not (found / "hetrec-user-artists.tsv").is_file():
        raise InvalidInputError(f"{found} holds no hetrec-user-artists.tsv; set NIGHTSHIFT_BENCH_DATA to the directory that does")
    return found


def listeners_of_artists() -> csr_matrix:
    """HetRec: who played which artist at least once."""
    return public_data.listeners_of_artists(directory())


def sessions_of_plays() -> csr_matrix:
    """Last.fm-1K, two listeners: a row a session, in the order of time; a track without an id is known by artist and title."""
    names = ["user", "time", "artist_id", "artist", "track", "title"]
    frame = pd.read_csv(directory() / "plays-with-times.tsv", sep="\t", names=names, quoting=3, keep_default_na=False)
    frame["time"] = pd.to_datetime(frame["time"])
    frame = frame.sort_values(["user", "time"], kind="stable", ignore_index=True)
    pause = frame.groupby("user")["time"].diff()
    frame["session"] = (pause.isna() | (pause > pd.Timedelta(minutes=GAP))).cumsum()
    frame["session"] = frame.groupby("session")["time"].transform("first").rank(method="dense").astype(int)
    frame["track"] = frame["track"].where(frame["track"] != "", frame["artist"] + "\t" + frame["title"])
    return public_data.pairs(frame, "session", "track")
