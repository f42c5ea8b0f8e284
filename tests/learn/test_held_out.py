"""Held-out users: nothing of theirs is trained on, and what they hide is what is looked for."""

import numpy as np
import pytest

from recsys.learn.held_out import binary, split


def test_held_out_users_train_nothing_and_hide_a_fifth() -> None:
    rng = np.random.default_rng(1)
    history = binary(np.repeat(np.arange(40), 20), rng.integers(0, 90, 800), (40, 90))
    data = split(history, 3)
    assert len(data.rows) == data.fold_in.shape[0] == len(data.held_out) == 4
    assert (data.train + 0 != history).nnz == history[data.rows].nnz
    assert data.train[data.rows].nnz == 0
    for row, shown, hidden in zip(data.rows, data.fold_in, data.held_out, strict=True):
        assert len(hidden) == history[row].nnz // 5
        assert sorted([*shown.indices, *hidden]) == history[row].indices.tolist()
    assert [sorted(hidden) for hidden in split(history, 3).held_out] == [sorted(hidden) for hidden in data.held_out]
    assert data.rows.tolist() != split(history, 4).rows.tolist()


def test_figures_are_those_of_what_was_hidden() -> None:
    history = binary(np.repeat(np.arange(10), 5), np.tile(np.arange(5), 10), (10, 200))
    data = split(history, 1)
    scores = np.zeros((1, 200), np.float32)
    scores[0, :5] = 1  # what is shown is left out, so what is hidden comes first
    found = data.figures(data.rank(scores))
    assert {name: values.tolist() for name, values in found.items()} == {
        "recall_20": [1.0],
        "recall_50": [1.0],
        "ndcg_100": [1.0],
    }
    assert data.some(1, 5).fold_in.shape == (0, 200)
    scores = np.arange(200, dtype=np.float32)[None]
    assert data.figures(data.rank(scores))["ndcg_100"] == pytest.approx([0.0])
