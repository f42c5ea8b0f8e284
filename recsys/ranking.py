"""The best tracks of many rows at once, exactly, without all scores in float32; and lists that spread artists.

In go hidden units and output weights of a model, or any candidates; out come ids by descending score, ties by ascending id.
"""

import numpy as np
import numpy.typing as npt

from recsys.evaluate import top_k

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

#: Relative error of rounding a float32 to bfloat16, which has 8 bits of mantissa.
ROUNDING = 2.0**-8
#: Candidates that bfloat16 finds beyond the wanted number.
SPARE = 78


class LinearRanking:
    """The k best tracks by scores units @ weight.T + bias.

    Products in bfloat16 find a few more candidates than wanted, float32 decides among them. A bound on the rounding tells whether
    another track could belong to the best k; rows where one could are scored in float32 as a whole. The bound:
    |x.w - x'.w'| <= |x - x'| |w| + |x'| |w - w'| (Cauchy and Schwarz), plus the rounding of bias and result.

    Args:
        weight: float32 [tracks, units]. bias: float32 [tracks].
    """

    def __init__(self, weight: Floats, bias: Floats) -> None:
        import torch

        self._weight, self._bias = torch.from_numpy(weight), torch.from_numpy(bias)
        self._half, self._half_bias = self._weight.to(torch.bfloat16), self._bias.to(torch.bfloat16)
        self._norm = float(self._weight.norm(dim=1).max())
        self._error = float((self._weight - self._half.float()).norm(dim=1).max())
        self._bias_error = float((self._bias - self._half_bias.float()).abs().max())

    def best(self, units: Floats, k: int) -> tuple[Ids, Floats]:
        """Ids and scores of each row's k best tracks; [rows, k]."""
        import torch

        x = torch.from_numpy(units)
        if len(self._bias) <= k + SPARE:
            return self._exact(x, k)
        half = x.to(torch.bfloat16)
        rough, ids = torch.topk(torch.addmm(self._half_bias, half, self._half.T), k + SPARE, dim=1)
        scores = torch.bmm(self._weight[ids], x[:, :, None]).squeeze(2) + self._bias[ids]
        order = torch.from_numpy(np.lexsort((ids.numpy(), -scores.numpy()), axis=1))[:, :k]
        ids, scores = ids.gather(1, order), scores.gather(1, order)
        bound = (x - half.float()).norm(dim=1) * self._norm + half.float().norm(dim=1) * self._error + self._bias_error
        highest = rough[:, -1].float() + bound + rough[:, 0].float().abs().maximum(rough[:, -1].float().abs()) * ROUNDING
        doubtful = highest >= scores[:, -1]
        best, values = ids.numpy(), scores.numpy()
        if bool(doubtful.any()):
            rows = doubtful.numpy()
            best[rows], values[rows] = self._exact(x[doubtful], k)
        return best, values

    def _exact(self, x: "torch.Tensor", k: int) -> tuple[Ids, Floats]:  # type: ignore[name-defined] # noqa: F821
        import torch

        scores = torch.addmm(self._bias, x, self._weight.T).numpy()
        best = top_k(scores, k)
        return best, np.take_along_axis(scores, best, axis=1)


def spread(tracks: Ids, values: npt.NDArray[np.floating], artist_of: npt.NDArray[np.integer], gamma: float, length: int) -> Ids:
    """Re-rank candidates so that a track is worth gamma**k of its value after k tracks of its artist: greedy, best first.

    Args:
        tracks: [rows, candidates]. values: [rows, candidates], positive, descending: what a track is worth by itself.
        gamma: 1 keeps the order.

    Returns:
        [rows, length]; ties by the earlier place.

    Tracks 0 and 1 are of one artist, so the second of them counts half:

    >>> artist_of = np.array([0, 0, 1])
    >>> spread(np.array([[0, 1, 2]]), np.array([[0.9, 0.8, 0.5]]), artist_of, 0.5, 3).tolist()
    [[0, 2, 1]]
    """
    worth = np.array(values, dtype=np.float64)
    artists = artist_of[tracks]
    chosen = np.empty((len(tracks), length), np.int64)
    row = np.arange(len(tracks))
    for place in range(length):
        best = worth.argmax(axis=1)
        chosen[:, place] = tracks[row, best]
        np.multiply(worth, gamma, out=worth, where=artists == artists[row, best][:, None])
        worth[row, best] = -1.0
    return chosen
