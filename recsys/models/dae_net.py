"""The network of the autoencoder: sparse rows in, a softmax over items out, and the exact loss without dense inputs or targets.

The first layer sums the embeddings of a row's items; the loss is a function with its own gradient: it needs the logits of a batch
once, and where the processor multiplies bfloat16 natively the three large products may use it (weights and sums stay float32).
"""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix


class Net(Protocol):
    """A network: items' indices, offsets of rows and weights in, units out; ``out`` gives an item's logits from them."""

    embedding: "torch.nn.EmbeddingBag"
    bias: "torch.nn.Parameter"
    out: "torch.nn.Linear"

    def __call__(self, index: "torch.Tensor", offset: "torch.Tensor", weight: "torch.Tensor", /) -> "torch.Tensor":
        """Units of each row."""

    def to(self, device: str, /) -> Self:
        """Move it to a device."""

    def train(self) -> Self:
        """Set it to training."""

    def eval(self) -> Self:
        """Set it to use."""

    def named_parameters(self) -> "Iterator[tuple[str, torch.nn.Parameter]]":
        """Its weights, as they are learned."""

    def state_dict(self) -> "dict[str, torch.Tensor]":
        """Its weights by name."""

    def load_state_dict(self, state_dict: "Mapping[str, torch.Tensor]", /, *, assign: bool = False) -> object:
        """Take weights of these names."""


def build(items: int, layers: list[int], *, drawn: bool = True) -> Net:
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


def code(net: Net, rows: "csr_matrix", weight: npt.NDArray[np.floating]) -> "torch.Tensor":
    """The last hidden layer of rows, float32 [rows, units]; ``weight``: [nnz], what each entry counts."""
    import torch

    device = net.bias.device
    index = torch.from_numpy(rows.indices.astype(np.int64)).to(device)
    offset = torch.from_numpy(rows.indptr[:-1].astype(np.int64)).to(device)
    return net(index, offset, torch.from_numpy(weight.astype(np.float32)).to(device))


def loss(net: Net, units: "torch.Tensor", rows: "csr_matrix", *, half: bool) -> "torch.Tensor":
    """Negative multinomial log likelihood of the rows, the mean over users; ``half``: products in bfloat16."""
    import torch

    counts = np.diff(rows.indptr)
    device = net.bias.device
    row = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(device)
    column = torch.from_numpy(rows.indices.astype(np.int64)).to(device)
    total = torch.from_numpy(counts.astype(np.float32)).to(device)
    result: torch.Tensor = _likelihood().apply(units, net.out.weight, net.out.bias, row, column, total, half)
    return result


class _Context(Protocol):
    """What the gradient finds again of the way forward."""

    saved_tensors: tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]

    def save_for_backward(self, *tensors: "torch.Tensor") -> None: ...


@cache
def _likelihood() -> "type[torch.autograd.Function]":
    import torch

    class Likelihood(torch.autograd.Function):
        """Sum over a batch of total * logsumexp(logits) - logits of liked items, over the number of rows.

        The gradient in the logits is total * softmax - liked: computed in place, so that one matrix of the batch's size exists.
        """

        @staticmethod
        def forward(
            ctx: _Context,
            units: torch.Tensor,
            weight: torch.Tensor,
            bias: torch.Tensor,
            row: torch.Tensor,
            column: torch.Tensor,
            total: torch.Tensor,
            half: bool,
        ) -> torch.Tensor:
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
        def backward(ctx: _Context, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
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
