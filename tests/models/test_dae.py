"""The autoencoder: it learns, repeats itself, resumes, and refuses weights that are not numbers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from recsys.exceptions import CorruptDataError, MissingDataError
from recsys.learn.offline_metrics import top_k
from recsys.models import dae_net
from recsys.models.dae import Dae
from recsys.models.dae_training import Optimizer
from tests.support.tastes import GROUPS, taste_matrix


def small(**more: object) -> Dae:
    return Dae((16,), **{"epochs": 12, "batch": 32, "learning_rate": 2e-2, "patience": 12, **more})  # type: ignore[arg-type]


def saved(model: Dae, directory: Path) -> bytes:
    directory.mkdir()
    model.save(directory)
    return (directory / "dae.safetensors").read_bytes()


@pytest.mark.slow
def test_it_learns_the_groups(tmp_path: Path) -> None:
    matrix = taste_matrix()
    model = small()
    figures = model.fit(matrix, seed=1, work=tmp_path)
    assert figures["ndcg_100"] > 0.3
    lists = top_k(model.score(matrix), 8)
    same_group = lists % GROUPS == np.arange(len(lists))[:, None] % GROUPS
    assert same_group.mean() > 0.9


@pytest.mark.slow
def test_same_seed_same_bytes_another_seed_another_model(tmp_path: Path) -> None:
    matrix = taste_matrix(users=80)
    models = [small(epochs=3) for _ in range(3)]
    for i, (model, seed) in enumerate(zip(models, (1, 1, 2), strict=True)):
        model.fit(matrix, seed=seed, work=tmp_path / f"work{i}")
    first, second, third = (saved(model, tmp_path / str(i)) for i, model in enumerate(models))
    assert first == second
    assert first != third


def test_a_killed_training_resumes_to_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = taste_matrix(users=80)
    whole = small(epochs=5)
    whole.fit(matrix, seed=1, work=tmp_path / "whole")

    epoch, calls = Dae._epoch, []

    def killed(self: Dae, *args: object) -> float:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return epoch(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Dae, "_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        small(epochs=5).fit(matrix, seed=1, work=tmp_path / "killed")
    resumed = small(epochs=5)
    resumed.fit(matrix, seed=1, work=tmp_path / "killed")
    assert len(calls) == 4 + 2, "the three finished epochs are not trained again"
    assert saved(resumed, tmp_path / "a") == saved(whole, tmp_path / "b")


def test_a_checkpoint_of_another_seed_is_not_used(tmp_path: Path) -> None:
    matrix = taste_matrix(users=80)
    small(epochs=2).fit(matrix, seed=1, work=tmp_path / "work")
    other, clean = small(epochs=2), small(epochs=2)
    other.fit(matrix, seed=2, work=tmp_path / "work")
    clean.fit(matrix, seed=2, work=tmp_path / "clean")
    assert saved(other, tmp_path / "a") == saved(clean, tmp_path / "b")


@pytest.mark.parametrize("layers", [(16,), (24, 8)])
def test_saved_and_loaded_scores_are_equal(tmp_path: Path, layers: tuple[int, ...]) -> None:
    matrix = taste_matrix(users=60)
    model, loaded = Dae(layers, epochs=2), Dae()
    model.fit(matrix, seed=1, work=tmp_path / "work")
    saved(model, tmp_path / "model")
    loaded.load(tmp_path / "model")
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.score(matrix), model.score(matrix))


def test_scores_do_not_depend_on_who_is_scored_together(tmp_path: Path) -> None:
    matrix = taste_matrix(users=60)
    model = small(epochs=2)
    model.fit(matrix, seed=1, work=tmp_path)
    np.testing.assert_allclose(model.score(matrix[7]), model.score(matrix)[7:8], rtol=1e-5)


def test_tracks_that_nobody_liked_rank_below_all_others(tmp_path: Path) -> None:
    matrix = taste_matrix()
    model = small(epochs=1)
    model.fit(matrix, seed=1, work=tmp_path)
    scores = model.score(matrix)
    assert scores[:, -10:].max() < scores[:, :100].min()
    assert not np.isnan(scores).any()


def test_an_empty_history_is_scored(tmp_path: Path) -> None:
    model = small(epochs=1)
    model.fit(taste_matrix(), seed=1, work=tmp_path)
    assert np.isfinite(model.score(csr_matrix((1, 120), dtype=np.float32))[0, :100]).all()


@pytest.mark.parametrize(
    "dense",
    [np.ones((1, 5)), np.ones((5, 1)), np.ones((1, 1)), np.vstack([np.ones((1, 30)), np.eye(30)])],
    ids=["one user", "one track", "one pair", "a user with everything"],
)
def test_odd_histories_give_sane_scores(tmp_path: Path, dense: np.ndarray) -> None:
    matrix = csr_matrix(dense.astype(np.float32))
    model = small(epochs=1)
    model.fit(matrix, seed=1, work=tmp_path)
    assert np.isfinite(model.score(matrix)).all()


def test_nothing_to_learn_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no positives"):
        small().fit(csr_matrix((3, 4), dtype=np.float32), seed=1, work=tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    model = small(epochs=1)
    model.fit(taste_matrix(users=60), seed=1, work=tmp_path / "work")
    saved(model, tmp_path / "model")
    config = tmp_path / "model" / "dae.json"
    config.write_text(config.read_text().replace("[16]", "[16, 8]"))
    with pytest.raises(CorruptDataError, match="weights of another model"):
        Dae().load(tmp_path / "model")


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = small(epochs=1)
    model.fit(taste_matrix(users=60), seed=1, work=tmp_path / "work")
    saved(model, tmp_path / "model")
    path = tmp_path / "model" / "dae.safetensors"
    tensors = load_file(path)
    tensors["out.bias"][3] = float("nan")
    save_file(tensors, path)
    with pytest.raises(CorruptDataError, match=r"out\.bias"):
        Dae().load(tmp_path / "model")


def test_its_steps_are_those_of_torch_s_own_optimisers() -> None:
    import torch

    def steps(ours: bool) -> list[torch.Tensor]:
        torch.manual_seed(5)
        net = dae_net.build(30, [8])
        dense = [parameter for name, parameter in net.named_parameters() if name != "embedding.weight"]
        theirs = (torch.optim.Adam(dense, lr=0.01, fused=True), torch.optim.SparseAdam([net.embedding.weight], lr=0.01))
        mine = Optimizer(net, 0.01)
        rows = csr_matrix((np.random.default_rng(5).random((20, 30)) < 0.2).astype(np.float32))
        for _ in range(4):
            loss = dae_net.loss(net, dae_net.code(net, rows, np.ones(rows.nnz)), rows, half=False)
            if ours:
                mine.descend(loss)
                continue
            for part in theirs:
                part.zero_grad(set_to_none=True)
            loss.backward()
            for part in theirs:
                part.step()
        return [parameter.detach() for parameter in net.parameters()]

    assert all(torch.equal(mine, theirs) for mine, theirs in zip(steps(True), steps(False), strict=True))


def test_training_imports_no_compiler(tmp_path: Path) -> None:
    """It would take longer than a small training."""
    program = """
import sys
from pathlib import Path
import numpy as np
from scipy.sparse import csr_matrix
from recsys.models.dae import Dae
history = np.eye(40, 60, dtype=np.float32) + np.eye(40, 60, 1, dtype=np.float32)
Dae(epochs=1).fit(csr_matrix(history), seed=1, work=Path(sys.argv[1]))
print("torch._dynamo" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
