"""The best tracks of many rows at once, exactly, without all scores in float32; and lists that spread artists.

In go hidden units and output weights of a model, or any candidates; out come ids by descending score, ties by ascending id.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.learn.offline_metrics import top_k

if TYPE_CHECKING:
    from torch import Tensor

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

#: Relative error of rounding a float32 to bfloat16, which has 8 bits of mantissa.
ROUNDING = 2.0**-8
#: Tracks of a group whose best one stands for it, and candidates of a row beyond which it is scored in float32 as a whole.
GROUP, MOST = 32, 1000
#: The number of groups is a multiple of this; products of such a width are quicker.
ALIGNED = 32


class LinearRanking:
    """The k best tracks by scores units @ weight.T + bias.

    Products in bfloat16 find candidates, float32 decides among them. No score is further than a bound e from its product, and k
    tracks reach the k-th best group's product t: none below t - 2e can be among the best k. The bound:
    |x.w - x'.w'| <= |x - x'| |w| + |x'| |w - w'| (Cauchy and Schwarz), plus the rounding of bias and result.

    Args:
        weight: float32 [tracks, units]. bias: float32 [tracks].
    """

    def __init__(self, weight: Floats, bias: Floats) -> None:
        import torch

        self._weight, self._bias = torch.from_numpy(weight), torch.from_numpy(bias)
        half, half_bias = self._weight.to(torch.bfloat16), self._bias.to(torch.bfloat16)
        self._norm = float(self._weight.norm(dim=1).max())
        self._error = float((self._weight - half.float()).norm(dim=1).max())
        self._bias_error = float((self._bias - half_bias.float()).abs().max())
        # Member m of group g is track m * groups + g; what fills the last ones up is never a candidate.
        self._groups = -(-len(bias) // (GROUP * ALIGNED)) * ALIGNED
        lacking = self._groups * GROUP - len(bias)
        padded = torch.nn.functional.pad(half, (0, 0, 0, lacking))
        self._members = padded.view(GROUP, self._groups, -1).transpose(1, 2)
        self._member_bias = torch.nn.functional.pad(half_bias, (0, lacking), value=-torch.inf).view(GROUP, self._groups)
        self._product = torch.empty(0)

    def best(self, units: Floats, k: int) -> tuple[Ids, Floats]:
        """Ids and scores of each row's k best tracks; [rows, k]."""
        import torch

        x = torch.from_numpy(units)
        if self._groups < k:
            ids, scores = self._exact(x, k)
            return ids.numpy(), scores.numpy()
        half = x.to(torch.bfloat16)
        highest = self._multiply(half)
        reached = highest.topk(k, dim=1, sorted=False).values.amin(dim=1)
        error = (x - half.float()).norm(dim=1) * self._norm + half.float().norm(dim=1) * self._error + self._bias_error
        least = reached - 2 * (error + reached.abs() * ROUNDING)
        row, group = (highest >= least[:, None]).nonzero().unbind(1)
        member, pair = (self._product[:, row, group] >= least[row]).nonzero().unbind(1)
        row, track = row[pair], member * self._groups + group[pair]
        order = (row * len(self._bias) + track).argsort()
        row, track = row[order], track[order]
        counts = row.bincount(minlength=len(x))
        crowded = counts > MOST
        best, values = torch.empty((len(x), k), dtype=torch.int64), torch.empty((len(x), k))
        if crowded.any():
            best[crowded], values[crowded] = self._exact(x[crowded], k)
            track = track[~crowded[row]]
        if not crowded.all():
            best[~crowded], values[~crowded] = self._decide(x[~crowded], track, counts[~crowded], k)
        return best.numpy(), values.numpy()

    def _multiply(self, half: "Tensor") -> "Tensor":
        """Each group's highest product, float32 [rows, groups]; leaves all in ``_product``, bfloat16 [members, rows, groups]."""
        import torch

        shape = (GROUP, len(half), self._groups)
        if self._product.shape != shape:
            # Kept from call to call: fresh memory costs as much as a quarter of the product.
            self._product = torch.empty(shape, dtype=torch.bfloat16)
        highest = torch.full(shape[1:], -torch.inf, dtype=torch.bfloat16)
        for bias, weight, product in zip(self._member_bias, self._members, self._product, strict=True):
            torch.addmm(bias, half, weight, out=product)
            torch.maximum(highest, product, out=highest)
        return highest.float()

    def _decide(self, x: "Tensor", track: "Tensor", counts: "Tensor", k: int) -> "tuple[Tensor, Tensor]":
        """The best of each row's candidates; these stand in ``track`` one row after another, by ascending id."""
        import torch

        start = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
            shape = (len(x), len(self._bias))
            wanted = torch.sparse_csr_tensor(start, track, torch.zeros(len(track)), shape, check_invariants=False)
        filled = torch.arange(int(counts.max())) < counts[:, None]
        ids, scores = torch.zeros(filled.shape, dtype=torch.int64), torch.full(filled.shape, -torch.inf)
        ids[filled] = track
        scores[filled] = torch.sparse.sampled_addmm(wanted, x, self._weight.T, beta=0.0).values() + self._bias[track]
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return ids.gather(1, order[:, :k]), scores[:, :k]

    def _exact(self, x: "Tensor", k: int) -> "tuple[Tensor, Tensor]":
        import torch

        scores = torch.addmm(self._bias, x, self._weight.T)
        best = torch.from_numpy(top_k(scores.numpy(), k))
        return best, scores.gather(1, best)


def spread(tracks: Ids, values: npt.NDArray[np.floating], artist_of: npt.NDArray[np.integer], gamma: float, length: int) -> Ids:
    """Re-rank candidates so that a track is worth gamma**k of its value after k tracks of its artist: greedy, best first.

    Args:
        tracks: [rows, candidates], negative where a row has no more. values: [rows, candidates], positive, descending: what a
            track is worth by itself.
        gamma: 1 keeps the order.

    Returns:
        [rows, length]; ties by the earlier place, -1 behind the last candidate.

    Tracks 0 and 1 are of one artist, so the second of them counts half:

    >>> artist_of = np.array([0, 0, 1])
    >>> spread(np.array([[0, 1, 2]]), np.array([[0.9, 0.8, 0.5]]), artist_of, 0.5, 3).tolist()
    [[0, 2, 1]]
    """
    gamma = max(gamma, 1e-12)  # 0 would make what has been taken worth as much as what nobody wants
    worth = np.where(tracks < 0, -1.0, values.astype(np.float64))
    artists = artist_of[tracks]
    chosen = np.empty((len(tracks), length), np.int64)
    row = np.arange(len(tracks))
    for place in range(length):
        best = worth.argmax(axis=1)
        chosen[:, place] = np.where(worth[row, best] < 0, -1, tracks[row, best])
        np.multiply(worth, gamma, out=worth, where=artists == artists[row, best][:, None])
        worth[row, best] = -1.0
    return chosen
