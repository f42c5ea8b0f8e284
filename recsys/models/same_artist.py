"""Which tracks to play after a track: others of its artist, at random. As a control it is called StickyArtist.

In go the catalogue's artists; out come 20 tracks for each track, as a version holds them.
"""

import numpy as np
import numpy.typing as npt

from recsys.schemas import NEIGHBOURS


def table(artist_of: npt.NDArray[np.integer], available: npt.NDArray[np.bool_], *, seed: int) -> npt.NDArray[np.uint32]:
    """Available tracks of the same artist, a sample of 20 for each track where there are more, without the track itself.

    Args:
        artist_of: int [tracks]. available: bool [tracks], false for retired ones, which have such tracks and are none.

    Returns:
        uint32 [tracks, 20]. A row that has fewer ends with the track itself, which is never answered to its own play.
    """
    rng = np.random.default_rng([seed, 4])
    rows = np.repeat(np.arange(len(artist_of), dtype=np.uint32)[:, None], NEIGHBOURS, axis=1)
    order = np.argsort(artist_of, kind="stable")
    for tracks in np.split(order, np.flatnonzero(np.diff(artist_of[order])) + 1):
        offered = tracks[available[tracks]]
        for track in tracks:
            drawn = offered[rng.choice(len(offered), min(len(offered), NEIGHBOURS + 1), replace=False)]
            others = drawn[drawn != track][:NEIGHBOURS]
            rows[track, : len(others)] = others
    return rows
