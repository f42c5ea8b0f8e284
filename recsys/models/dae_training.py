"""How the autoencoder is trained: its optimiser, and where a training stands, so that a killed one goes on.

In go a network and its loss, batch by batch; out come better weights and, after every epoch, a checkpoint.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.models.dae_net import Net

if TYPE_CHECKING:
    import torch
    from torch.optim.optimizer import StateDict

log = logging.getLogger(__name__)


class Optimizer:
    """Adam; the embeddings' gradient is sparse, and only the rows that a batch touches move.

    Args:
        net: what learns. rate: the size of a step.
    """

    def __init__(self, net: Net, rate: float) -> None:
        import torch

        dense = [parameter for name, parameter in net.named_parameters() if name != "embedding.weight"]
        sparse = [net.embedding.weight]
        self._parts = (torch.optim.Adam(dense, lr=rate, fused=True), torch.optim.SparseAdam(sparse, lr=rate))

    def descend(self, loss: "torch.Tensor") -> None:
        """One step."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for part in self._parts:
            part.step()

    def state_dict(self) -> list["StateDict"]:
        """All that its next step depends on, but for the weights."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, saved: list["StateDict"]) -> None:
        """Take what :meth:`state_dict` gave."""
        for part, state in zip(self._parts, saved, strict=True):
            part.load_state_dict(state)


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

        if not self._path.exists():
            return
        saved = torch.load(self._path, weights_only=True)
        if saved["identity"] != self._identity:
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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
        counts = {"epoch": self.epoch, "stale": self.stale, "best_epoch": self.best_epoch}
        best = {"best_ndcg": self.best_ndcg, "best": self.best}
        torch.save({"identity": self._identity, **state, **counts, **best}, partial)
        partial.rename(self._path)
