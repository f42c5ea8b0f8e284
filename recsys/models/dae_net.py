"""The network of the autoencoder: sparse rows in, a softmax over items out, and the exact loss without dense inputs or targets.

The first layer sums the embeddings of a row's items; the loss is a function with its own gradient: it needs the logits of a batch
once, and where the processor multiplies bfloat16 natively the three large products may use it (weights and sums stay float32).
"""

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix


def build(items: int, layers: list[int], *, drawn: bool = True) -> "torch.nn.Module":
    """An encoder with the given layers, mirrored but for the last, and an output a unit each item.

    Args:
        drawn: whether the weights are drawn at random; if not, they are no numbers until others take their place.
    """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # An embedding on the device "meta" would load the compiler of torch, for a second.
            weight = None if drawn else torch.empty(items, layers[0])
            self.embedding = nn.EmbeddingBag(items, layers[0], mode="sum", sparse=True, _weight=weight)
            self.bias = nn.Parameter(torch.zeros(layers[0]))
            sizes = [*layers, *layers[-2::-1]]
            device = None if drawn else "meta"
            self.hidden = nn.ModuleList([nn.Linear(a, b, device=device) for a, b in pairwise(sizes)])
            self.out = nn.Linear(sizes[-1], items, device=device)
            if drawn:
                nn.init.xavier_normal_(self.embedding.weight)
                nn.init.xavier_normal_(self.out.weight)
                nn.init.zeros_(self.out.bias)

        def forward(self, index: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            x = torch.tanh(self.embedding(index, offset, per_sample_weights=weight) + self.bias)
            for layer in self.hidden:
                x = torch.tanh(layer(x))
            return x

    return Net()


def code(net: Any, rows: "csr_matrix", weight: npt.NDArray[np.floating]) -> "torch.Tensor":
    """The last hidden layer of rows, float32 [rows, units]; ``weight``: [nnz], what each entry counts."""
    import torch

    device = net.bias.device
    index = torch.from_numpy(rows.indices.astype(np.int64)).to(device)
    offset = torch.from_numpy(rows.indptr[:-1].astype(np.int64)).to(device)
    units: torch.Tensor = net(index, offset, torch.from_numpy(weight.astype(np.float32)).to(device))
    return units


def loss(net: Any, units: "torch.Tensor", rows: "csr_matrix", *, half: bool) -> "torch.Tensor":
    """Negative multinomial log likelihood of the rows, the mean over users; ``half``: products in bfloat16."""
    import torch

    counts = np.diff(rows.indptr)
    device = net.bias.device
    row = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(device)
    column = torch.from_numpy(rows.indices.astype(np.int64)).to(device)
    total = torch.from_numpy(counts.astype(np.float32)).to(device)
    result: torch.Tensor = _likelihood().apply(units, net.out.weight, net.out.bias, row, column, total, half)
    return result


@cache
def _likelihood() -> Any:
    import torch

    class Likelihood(torch.autograd.Function):
        """Sum over a batch of total * logsumexp(logits) - logits of liked items, over the number of rows.

        The gradient in the logits is total * softmax - liked: computed in place, so that one matrix of the batch's size exists.
        """

        @staticmethod
        def forward(  # type: ignore[override]
            ctx: Any, units: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, row: torch.Tensor, column: torch.Tensor,
            total: torch.Tensor, half: bool,
        ) -> torch.Tensor:  # fmt: skip
            kind = torch.bfloat16 if half else torch.float32
            x, w = units.to(kind), weight.to(kind)
            logits = torch.addmm(bias.to(kind), x, w.T).float()
            liked = logits[row, column].sum()
            highest = logits.max(dim=1, keepdim=True).values
            gradient = logits.sub_(highest).exp_()
            sums = gradient.sum(dim=1, keepdim=True)
            value = (total * (sums.log() + highest).squeeze(1)).sum() - liked
            gradient.mul_(total[:, None] / sums / len(units))
            gradient[row, column] -= 1.0 / len(units)
            ctx.save_for_backward(x, w, gradient)
            return value / len(units)

        @staticmethod
        def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
            x, w, gradient = ctx.saved_tensors
            d = gradient.to(x.dtype)
            # The upstream gradient is multiplied into what is small.
            of_weight = (d.T @ (x * upstream).to(x.dtype)).float()
            return (d @ w).float() * upstream, of_weight, gradient.sum(dim=0) * upstream, None, None, None, None

    return Likelihood


@cache
def has_native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulation would be slower than float32."""
    import torch

    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
