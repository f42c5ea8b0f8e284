"""What listeners are interested in: a few tracks each, related to each other.

In go embeddings and how likely each track is to be somebody's interest; out come the interests of invented listeners.
"""

import numpy as np
import numpy.typing as npt

#: Interests of a listener.
INTERESTS = 3
#: How strongly a listener's interests resemble each other, per unit of inner product, and among how many tracks they are found.
RELATEDNESS = 2.2
CANDIDATES = 128


def draw_interests(
    embeddings: npt.NDArray[np.float32],
    cumulative: npt.NDArray[np.float64],
    listeners: int,
    rng: np.random.Generator,
    count: int = INTERESTS,
) -> npt.NDArray[np.int64]:
    """Different tracks for each listener, int64 [listeners, count]: the first by popularity, then each like those before it.

    Args:
        embeddings: float32 [tracks, dims]. cumulative: [tracks], sums of the tracks' popularities, the last one 1.
        count: interests a listener; from 1 to the number of tracks.
    """
    tracks = len(embeddings)
    drawn = np.searchsorted(cumulative, rng.random((listeners, max(CANDIDATES, 2 * count))), side="right")
    others = count - 1
    if others:
        drawn[:, -others:] = (drawn[:, :1] + np.arange(1, count)) % tracks  # as many that differ always exist
    return np.take_along_axis(drawn, _related(embeddings, drawn, rng, others), axis=1)


def _related(
    embeddings: npt.NDArray[np.float32], drawn: npt.NDArray[np.int64], rng: np.random.Generator, others: int
) -> npt.NDArray[np.int64]:
    """The first of the drawn tracks and the places of some others, int64 [listeners, 1 + others]."""
    points = embeddings[drawn]
    rows = np.arange(len(drawn))
    # Without the second term, long vectors would win whatever their direction.
    score = -0.35 * RELATEDNESS * np.einsum("ucd,ucd->uc", points, points)
    score[:, drawn.shape[1] - others :] -= 1e6
    chosen = [np.zeros(len(drawn), np.int64)]
    for _ in range(others):
        latest = chosen[-1]
        score += RELATEDNESS * np.einsum("ud,ucd->uc", points[rows, latest], points)
        score[drawn == drawn[rows, latest][:, None]] = -np.inf
        # The largest of score plus Gumbel noise is a draw from the softmax of the scores.
        chosen.append(np.argmax(score + rng.gumbel(size=score.shape), axis=1))
    return np.stack(chosen, axis=1)
