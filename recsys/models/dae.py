"""A denoising autoencoder with multinomial likelihood (Mult-DAE; Liang, Krishnan, Hoffman, Jebara 2018, section 2).

The input is the user's history, scaled to unit length, with entries dropped at random while training; the output is a softmax
over the tracks that anybody liked. The network and its loss stand in :mod:`recsys.models.dae_net`.
"""

import json
import logging
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from recsys.exceptions import CorruptDataError, InvalidInputError, MissingDataError
from recsys.learn.offline_metrics import hits, ndcg_at_k, top_k
from recsys.learn.ranking import LinearRanking
from recsys.models import dae_net
from recsys.models.dae_training import Optimizer, Progress
from recsys.schemas import Figures

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

WEIGHTS, CONFIG, CHECKPOINT = "dae.safetensors", "dae.json", "checkpoint.pt"
HELD_OUT_USERS = 1000
SCORED_ROWS = 256
#: Least and greatest value of each number among the hyperparameters, and of each of the layers; the type is the least one's.
RANGES = {
    "layers": (1, 100_000),
    "dropout": (0.0, 0.99),
    "learning_rate": (1e-8, 10.0),
    "batch": (1, 2**20),
    "epochs": (1, 10_000),
    "patience": (1, 10_000),
}


class _Config(TypedDict):
    layers: list[int]
    dropout: float
    learning_rate: float
    batch: int
    epochs: int
    patience: int
    precision: str


class Dae:
    """See the module.

    Args:
        layers: sizes of the encoder's layers; the decoder mirrors all but the last. (300, 50) are the original's sizes.
        dropout: share of history entries that training hides.
        learning_rate, batch, epochs: Adam's step, users a step, and how often every user is seen at most.
        patience: epochs without a better held-out NDCG@100 after which training ends.
        precision: of the large products while training; bfloat16 where the processor has it (weights stay float32), or float32.
    """

    def __init__(
        self,
        layers: tuple[int, ...] = (128,),
        *,
        dropout: float = 0.5,
        learning_rate: float = 4e-3,
        batch: int = 128,
        epochs: int = 12,
        patience: int = 4,
        precision: str = "bfloat16",
    ) -> None:
        self._config: _Config = {
            "layers": list(layers),
            "dropout": dropout,
            "learning_rate": learning_rate,
            "batch": batch,
            "epochs": epochs,
            "patience": patience,
            "precision": precision,
        }
        _check(self._config)
        self._items = np.zeros(0, dtype=np.int64)
        self._tracks = 0
        self._net: dae_net.Net
        self._ranking: LinearRanking | None = None

    @property
    def config(self) -> dict[str, object]:
        """The hyperparameters."""
        return dict(self._config)

    def fit(self, history: "csr_matrix", *, seed: int, work: Path) -> Figures:
        """Train with early stopping; resumes from a checkpoint in ``work`` of the same seed and data.

        Raises:
            MissingDataError: nobody liked anything.
        """
        import torch

        if history.nnz == 0:
            raise MissingDataError("there are no positives to train on; collect more traffic or widen the window")
        torch.manual_seed(seed)
        torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, which imports the compiler, too
        # Nothing reads memory that nothing wrote; to fill it all would take a quarter of the time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self._tracks, self._ranking = history.shape[1], None
        self._items = np.flatnonzero(np.asarray(history.sum(axis=0)).ravel())
        data = history[:, self._items].tocsr()
        data.sort_indices()
        fold_in, held_out, train = _split(data, seed)
        self._net = dae_net.build(len(self._items), self._config["layers"]).to(_device())
        optimizer = Optimizer(self._net, self._config["learning_rate"])
        state = Progress(work / CHECKPOINT, f"{seed} {data.shape} {data.nnz} {json.dumps(self._config)}")
        state.resume(self._net, optimizer)
        users = np.flatnonzero(np.diff(train.indptr))
        while state.epoch < self._config["epochs"] and state.stale < self._config["patience"]:
            started = time.monotonic()
            loss = self._epoch(train, users, optimizer, np.random.default_rng([seed, state.epoch]))
            ndcg = self._validate(fold_in, held_out)
            state.finish_epoch(self._net, optimizer, ndcg)
            shown, seconds = "-" if ndcg is None else f"{ndcg:.4f}", time.monotonic() - started
            text = "epoch %d of %d: loss %.2f, held-out NDCG@100 %s, %.1f s"
            log.info(text, state.epoch, self._config["epochs"], loss, shown, seconds)
        self._net.load_state_dict(state.best)
        return {"trained_epochs": state.epoch, "best_epoch": state.best_epoch, "ndcg_100": round(state.best_ndcg, 6)}

    def score(self, history: "csr_matrix") -> npt.NDArray[np.float32]:
        """Logits; tracks that nobody liked get -inf."""
        import torch

        scores = np.full((history.shape[0], self._tracks), -np.inf, dtype=np.float32)
        data = history[:, self._items].tocsr()
        self._net.eval()
        with torch.inference_mode():
            for start in range(0, data.shape[0], SCORED_ROWS):
                rows = data[start : start + SCORED_ROWS]
                weight = np.repeat(_unit(rows), np.diff(rows.indptr))
                units = dae_net.code(self._net, rows, weight)
                scores[start : start + SCORED_ROWS, self._items] = self._net.out(units).cpu().numpy()
        return scores

    def best(self, history: "csr_matrix", k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Ids and scores of the k best tracks of each row; tracks that nobody liked come last."""
        import torch

        if len(self._items) < k or _device() == "cuda":
            scores = self.score(history)
            tracks = top_k(scores, k)
            return tracks, np.take_along_axis(scores, tracks, axis=1)
        if self._ranking is None:
            out = self._net.out
            self._ranking = LinearRanking(out.weight.detach().numpy(), out.bias.detach().numpy())
        rows = history[:, self._items].tocsr()
        self._net.eval()
        with torch.inference_mode():
            units = dae_net.code(self._net, rows, np.repeat(_unit(rows), np.diff(rows.indptr))).numpy()
            found, values = self._ranking.best(units, k)
        return self._items[found], values

    def save(self, directory: Path) -> None:
        """Write weights and configuration."""
        import torch
        from safetensors.torch import save_file

        tensors = {name: tensor.contiguous() for name, tensor in self._net.state_dict().items()}
        save_file({**tensors, "items": torch.from_numpy(self._items)}, directory / WEIGHTS)
        (directory / CONFIG).write_text(json.dumps({**self._config, "tracks": self._tracks}, sort_keys=True))

    def load(self, directory: Path) -> None:
        """Read weights and configuration.

        Raises:
            CorruptDataError: a weight is not a finite number, or the weights are of another network.
        """
        from safetensors.torch import load_file

        config = json.loads((directory / CONFIG).read_text())
        self._tracks, self._ranking = config.pop("tracks"), None
        self._config = config
        tensors = load_file(directory / WEIGHTS)
        for name, tensor in tensors.items():
            # A sum is finite only if every term is, and is quicker to form.
            if not bool(tensor.sum().isfinite()):
                raise CorruptDataError(f"{directory / WEIGHTS} has weights in {name} that are not finite; train again")
        self._items = tensors.pop("items").numpy()
        self._net = dae_net.build(len(self._items), config["layers"], drawn=False)
        try:
            self._net.load_state_dict(tensors, assign=True)
        except RuntimeError as error:
            raise CorruptDataError(f"{directory / WEIGHTS} has the weights of another model; train again ({error})") from None

    def _epoch(self, train: "csr_matrix", users: npt.NDArray[np.int64], optimizer: Optimizer, rng: np.random.Generator) -> float:
        self._net.train()
        total = 0.0
        batches = np.array_split(rng.permutation(users), max(1, round(len(users) / self._config["batch"])))
        kept = 1.0 - self._config["dropout"]
        half = self._config["precision"] == "bfloat16" and (dae_net.has_native_bfloat16() or _device() == "cuda")
        for batch in batches:
            rows = train[batch]
            shown = rng.random(rows.nnz) < kept
            weight = np.repeat(_unit(rows), np.diff(rows.indptr)) * shown / kept
            loss = dae_net.loss(self._net, dae_net.code(self._net, rows, weight), rows, half=half)
            optimizer.descend(loss)
            total += loss.item() * len(batch)
        return total / len(users)

    def _validate(self, fold_in: "csr_matrix", held_out: "csr_matrix") -> float | None:
        import torch

        if fold_in.shape[0] == 0:
            return None
        self._net.eval()
        with torch.inference_mode():
            units = dae_net.code(self._net, fold_in, np.repeat(_unit(fold_in), np.diff(fold_in.indptr)))
            logits = self._net.out(units).cpu().numpy()
        rows = np.repeat(np.arange(fold_in.shape[0]), np.diff(fold_in.indptr))
        logits[rows, fold_in.indices] = -np.inf
        wanted = np.split(held_out.indices, held_out.indptr[1:-1])
        found = hits(top_k(logits, 100), wanted, logits.shape[1])
        return float(ndcg_at_k(found, np.diff(held_out.indptr), 100).mean())


def _check(config: _Config) -> None:
    """Raise InvalidInputError if a hyperparameter is out of its range."""
    if config["precision"] not in ("bfloat16", "float32"):
        raise InvalidInputError(f"precision {config['precision']!r} is neither bfloat16 nor float32")
    if not 1 <= len(config["layers"]) <= 10:
        raise InvalidInputError(f"layers {config['layers']!r} must be the sizes of one to ten layers")
    values: dict[str, object] = dict(config)
    for name, (low, high) in RANGES.items():
        for value in config["layers"] if name == "layers" else [values[name]]:
            whole = type(low) is int
            if not (type(value) is int or (type(value) is float and not whole)) or not low <= value <= high:
                what = "an integer" if whole else "a number"
                raise InvalidInputError(f"{name} of the autoencoder is {value!r}; it must be {what} from {low} to {high}")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _unit(rows: "csr_matrix") -> npt.NDArray[np.float32]:
    """What scales each row to unit length."""
    scale: npt.NDArray[np.float32] = (1.0 / np.sqrt(np.maximum(np.diff(rows.indptr), 1))).astype(np.float32)
    return scale


def _split(data: "csr_matrix", seed: int) -> tuple["csr_matrix", "csr_matrix", "csr_matrix"]:
    """Strong generalisation: some users only validate; a fifth of their history is held out.

    Returns:
        fold-in rows, held-out rows (of the same users), training matrix (those users' rows emptied).
    """
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng([seed, 1])
    eligible = np.flatnonzero(np.diff(data.indptr) >= 5)
    chosen = np.sort(rng.permutation(eligible)[: min(HELD_OUT_USERS, len(eligible) // 10)])
    rows = data[chosen]
    hidden = np.zeros(rows.nnz, dtype=bool)
    for start, end in pairwise(rows.indptr):
        hidden[start + rng.permutation(end - start)[: max(1, (end - start) // 5)]] = True

    def part(mask: npt.NDArray[np.bool_]) -> "csr_matrix":
        row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        return csr_matrix((rows.data[mask], (row[mask], rows.indices[mask])), shape=rows.shape)

    keep = np.ones(data.shape[0], dtype=np.float32)
    keep[chosen] = 0.0
    train = data.multiply(keep[:, None]).tocsr()
    train.eliminate_zeros()
    train.sort_indices()
    return part(~hidden), part(hidden), train
