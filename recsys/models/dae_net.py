"""The network of the autoencoder: sparse rows in, a softmax over items out, and the exact loss without dense inputs or targets.

The first layer sums the vectors of a row's items, and the same vectors turn the last layer into logits. The loss is a function
with its own gradient: it needs the logits of a batch once, and where the processor multiplies bfloat16 natively the three large
products may use it (weights and sums stay float32).
"""

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix


#: Root mean square of the lengths of item vectors before training, and iterations towards the singular vectors they are made of.
LENGTH, ITERATIONS = 1.0, 4
#: A logit that no softmax sees.
HIDDEN = -1e30


def build(items: int, layers: list[int]) -> "torch.nn.Module":
    """An encoder with the given layers, mirrored but for the last; a vector and a bias each item."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors = nn.Parameter(torch.empty(items, layers[0]))
            self.items_bias = nn.Parameter(torch.zeros(items))
            self.scale = nn.Parameter(torch.ones(()))
            self.bias = nn.Parameter(torch.zeros(layers[0]))
            sizes = [*layers, *layers[-2::-1]]
            self.hidden = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])

        def forward(self, index: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            summed = nn.functional.embedding_bag(index, self.vectors, offset, mode="sum", per_sample_weights=weight)
            x = torch.tanh(self.scale * summed + self.bias)
            for layer in self.hidden:
                x = torch.tanh(layer(x))
            return x

        def logits(self, units: torch.Tensor) -> torch.Tensor:
            return torch.addmm(self.items_bias, units, self.vectors.T)

    return Net()


def start(net: Any, rows: "csr_matrix") -> None:
    """Let training begin where singular vectors of the rows leave off: few users know any one item, so this saves many epochs.

    Items that many liked count less, so that they do not fill the first vectors; their share stands in the bias.
    """
    import torch

    counts = np.asarray(rows.sum(axis=0)).ravel()
    weight = np.repeat(np.maximum(np.diff(rows.indptr), 1) ** -0.5, np.diff(rows.indptr)) * counts[rows.indices] ** -0.25
    index = torch.from_numpy(np.stack([np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices]).astype(np.int64))
    matrix = torch.sparse_coo_tensor(index, torch.from_numpy(weight.astype(np.float32)), rows.shape, check_invariants=False)
    _, values, right = torch.svd_lowrank(matrix, q=min(net.vectors.shape[1], *rows.shape), niter=ITERATIONS)
    found = torch.zeros(net.vectors.shape)
    found[:, : len(values)] = right * values.sqrt()
    logs = torch.from_numpy(np.log1p(counts).astype(np.float32))
    with torch.no_grad():
        net.vectors.copy_(found * LENGTH / found.square().sum(dim=1).mean().sqrt())
        net.items_bias.copy_(logs - logs.mean())


def code(net: Any, rows: "csr_matrix", weight: npt.NDArray[np.floating]) -> "torch.Tensor":
    """The last hidden layer of rows, float32 [rows, units]; ``weight``: [nnz], what each entry counts."""
    import torch

    device = net.bias.device
    index = torch.from_numpy(rows.indices.astype(np.int64)).to(device)
    offset = torch.from_numpy(rows.indptr[:-1].astype(np.int64)).to(device)
    units: torch.Tensor = net(index, offset, torch.from_numpy(weight.astype(np.float32)).to(device))
    return units


def loss(net: Any, units: "torch.Tensor", rows: "csr_matrix", shown: npt.NDArray[np.bool_], *, half: bool) -> "torch.Tensor":
    """Negative multinomial log likelihood of what the input did not show, among all items that it did not show.

    The mean over hidden entries. ``shown``: [nnz], which entries of the rows the input contained; ``half``: products in bfloat16.
    """
    import torch

    device = net.bias.device
    row, column = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices.astype(np.int64)

    def entries(mask: npt.NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(row[mask]).to(device), torch.from_numpy(column[mask]).to(device)

    result: torch.Tensor = _likelihood().apply(units, net.vectors, net.items_bias, entries(~shown), entries(shown), half)
    return result


@cache
def _likelihood() -> Any:
    import torch

    class Likelihood(torch.autograd.Function):
        """Mean over hidden entries of logsumexp(logits of items not shown) - logit of the entry.

        The gradient in a row's logits is its number of hidden entries * softmax - 1 where hidden: computed in place, so that one
        matrix of the batch's size exists.
        """

        @staticmethod
        def forward(  # type: ignore[override]
            ctx: Any, units: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, hidden: tuple[torch.Tensor, torch.Tensor],
            shown: tuple[torch.Tensor, torch.Tensor], half: bool,
        ) -> torch.Tensor:  # fmt: skip
            kind = torch.bfloat16 if half else torch.float32
            x, w = units.to(kind), weight.to(kind)
            logits = torch.addmm(bias.to(kind), x, w.T).float()
            wanted = logits[hidden].sum()
            logits[shown] = HIDDEN
            counts = hidden[0].bincount(minlength=len(units)).float()
            total = counts.sum().clamp(min=1.0)
            highest = logits.max(dim=1, keepdim=True).values
            gradient = logits.sub_(highest).exp_()
            sums = gradient.sum(dim=1, keepdim=True)
            value = (counts * (sums.log() + highest).squeeze(1)).sum() - wanted
            gradient.mul_(counts[:, None] / sums / total)
            gradient[hidden] -= 1.0 / total
            ctx.save_for_backward(x, w, gradient)
            return value / total

        @staticmethod
        def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
            x, w, gradient = ctx.saved_tensors
            d = gradient.to(x.dtype)
            # The upstream gradient is multiplied into what is small.
            of_weight = (d.T @ (x * upstream).to(x.dtype)).float()
            return (d @ w).float() * upstream, of_weight, gradient.sum(dim=0) * upstream, None, None, None

    return Likelihood


@cache
def has_native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulation would be slower than float32."""
    import torch

    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
