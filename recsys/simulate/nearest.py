"""The tracks with the largest inner product with given tracks: exact, chunked, ties by id.

In go embeddings and query tracks; out comes an array of track ids, nearest first.
"""

import numpy as np
import numpy.typing as npt

#: Scores that a chunk may hold at once.
CHUNK = 16_000_000
#: Tracks beyond the k-th that single precision must rank above a track for it to be left out.
SPARE = 16


def nearest_tracks(
    embeddings: npt.NDArray[np.float32], queries: npt.NDArray[np.int64], k: int, chunk: int = CHUNK
) -> npt.NDArray[np.int32]:
    """The ``k`` tracks with the largest inner product with each query track, the query itself among them.

    Args:
        embeddings: float32 [tracks, dims]. queries: [queries] track ids. k: from 1 to the number of tracks.
        chunk: scores held in memory at once.

    Returns:
        int32 [queries, k], by descending inner product (in double precision), then ascending id.
    """
    tracks = len(embeddings)
    wide = embeddings.astype(np.float64)
    result = np.empty((len(queries), k), np.int32)
    rows = max(1, chunk // tracks)
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        scores = embeddings[part] @ embeddings.T
        row, track = np.nonzero(scores >= _thresholds(scores, min(k + SPARE, tracks))[:, None])
        # Single precision and the shape of the matrix product may swap near ties; a few candidates decide in double precision.
        exact = np.einsum("ij,ij->i", wide[part[row]], wide[track])
        order = np.lexsort((track, -exact, row))
        firsts = np.searchsorted(row[order], np.arange(len(part)))
        result[start : start + rows] = track[order][firsts[:, None] + np.arange(k)]
    return result


def _thresholds(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """A value for each row that at least ``count`` of its scores reach, and not many more.

    The count-th largest of the maxima of more than ``count`` blocks is one, and blocks are quicker to sort than scores.
    """
    tracks = scores.shape[1]
    width = tracks // max(8 * count, 1)
    if width < 4:
        return np.partition(scores, tracks - count, axis=1)[:, tracks - count]
    blocks = tracks // width
    # The last few scores that fill no block can only add candidates.
    maxima = scores[:, : blocks * width].reshape(len(scores), blocks, width).max(axis=2)
    return np.partition(maxima, blocks - count, axis=1)[:, blocks - count]
