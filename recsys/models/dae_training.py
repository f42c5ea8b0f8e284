"""How the autoencoder is trained: its optimiser, and where a training stands, so that a killed one goes on.

In go a network and its loss, batch by batch; out come better weights and, after every epoch, a checkpoint.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from recsys.models import checkpoint
from recsys.models.dae_net import Net

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class State(TypedDict):
    """All that the optimiser's next step depends on, but for the weights: a tensor each, or a number, for every parameter."""

    means: list["torch.Tensor"]
    squares: list["torch.Tensor"]
    dense_steps: list["torch.Tensor"]
    sparse_steps: list[int]


class Optimizer:
    """Adam; the embeddings' gradient is sparse, and only the rows that a batch touches move.

    The functions of ``torch.optim`` do the work: its classes would import PyTorch's compiler, for longer than a small training.

    Args:
        net: what learns. rate: the size of a step.
    """

    def __init__(self, net: Net, rate: float) -> None:
        import torch

        self._rate = rate
        dense = [parameter for name, parameter in net.named_parameters() if name != "embedding.weight"]
        self._parameters: list[torch.Tensor] = [*dense, net.embedding.weight]
        self._state = State(
            means=[torch.zeros_like(parameter) for parameter in self._parameters],
            squares=[torch.zeros_like(parameter) for parameter in self._parameters],
            dense_steps=[torch.zeros((), dtype=torch.float32, device=parameter.device) for parameter in dense],
            sparse_steps=[0],
        )

    def descend(self, loss: "torch.Tensor") -> None:
        """One step."""
        import torch
        from torch.optim._functional import sparse_adam
        from torch.optim.adam import adam

        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        means, squares = self._state["means"], self._state["squares"]
        self._state["sparse_steps"] = steps = [step + 1 for step in self._state["sparse_steps"]]
        with torch.no_grad():
            adam(
                self._parameters[:-1], gradients[:-1], means[:-1], squares[:-1], [], self._state["dense_steps"], fused=True,
                amsgrad=False, beta1=0.9, beta2=0.999, lr=self._rate, weight_decay=0.0, eps=1e-8, maximize=False,
            )  # fmt: skip
            sparse_adam(
                self._parameters[-1:], gradients[-1:], means[-1:], squares[-1:], steps,
                eps=1e-8, beta1=0.9, beta2=0.999, lr=self._rate, maximize=False,
            )  # fmt: skip

    def state_dict(self) -> State:
        """All that its next step depends on, but for the weights."""
        return self._state

    def load_state_dict(self, saved: State) -> None:
        """Take what :meth:`state_dict` gave."""
        self._state = saved


class Progress:
    """Where training stands, written after every epoch so that a killed training goes on from there.

    Args:
        path: the checkpoint. identity: of data, seed and hyperparameters; a checkpoint of others is left alone.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self._identity = path, identity
        self.epoch, self.stale, self.best_epoch = 0, 0, 0
        self.best_ndcg = -1.0
        self.best: dict[str, torch.Tensor] = {}

    def resume(self, net: Net, optimizer: Optimizer) -> None:
        """Go on from the checkpoint, if there is one of this training."""
        import torch

        saved = checkpoint.read(self._path, self._identity)
        if saved is None:
            return
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"])
        self.epoch, self.stale, self.best_epoch = saved["epoch"], saved["stale"], saved["best_epoch"]
        self.best_ndcg, self.best = saved["best_ndcg"], saved["best"]
        log.info("resuming after epoch %d", self.epoch)

    def finish_epoch(self, net: Net, optimizer: Optimizer, ndcg: float | None) -> None:
        """Note an epoch; without users to validate on (None) the last epoch is the best."""
        import torch

        self.epoch += 1
        self.stale += 1
        if ndcg is None or ndcg > self.best_ndcg:
            self.best_ndcg, self.best_epoch, self.stale = ndcg or 0.0, self.epoch, 0
            self.best = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
        counts = {"epoch": self.epoch, "stale": self.stale, "best_epoch": self.best_epoch}
        best = {"best_ndcg": self.best_ndcg, "best": self.best}
        checkpoint.write(self._path, self._identity, {**state, **counts, **best})
