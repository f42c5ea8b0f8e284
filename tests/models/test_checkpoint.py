"""Checkpoints: of the same training and whole, or none; a torn one begins anew."""

from pathlib import Path

import pytest
import torch

from recsys.models import checkpoint
from tests.models.test_dae import saved, small
from tests.models.test_response import fitted
from tests.support.listens import group_plays
from tests.support.tastes import taste_matrix


def test_a_checkpoint_is_read_by_its_own_training_alone(tmp_path: Path) -> None:
    path = tmp_path / "work" / "checkpoint.pt"
    assert checkpoint.read(path, "a") is None
    checkpoint.write(path, "a", {"epoch": 3, "weights": torch.arange(4)})
    found = checkpoint.read(path, "a")
    assert found is not None
    assert found["epoch"] == 3
    assert found["weights"].tolist() == [0, 1, 2, 3]
    assert checkpoint.read(path, "b") is None
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_damaged_checkpoint_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.write(path, "a", {"weights": torch.arange(1000)})
    whole = path.read_bytes()
    for content in (b"", whole[:1], whole[:-1], whole[: len(whole) // 2], bytes(len(whole)), b"text", b"\x80\x02N."):
        path.write_bytes(content)
        caplog.clear()
        assert checkpoint.read(path, "a") is None
        assert "is damaged" in caplog.text


@pytest.mark.drill("training", "its checkpoint is torn, of either model", "training begins anew, to the same models")
@pytest.mark.parametrize("name", ["dae", "response"])
@pytest.mark.slow
def test_a_training_with_a_torn_checkpoint_begins_anew(tmp_path: Path, name: str) -> None:
    def train(into: str) -> bytes:
        if name == "response":
            return fitted(tmp_path / "work", group_plays(users=40, sessions=6), epochs=2).lists.to_bytes()
        model = small(epochs=2)
        model.fit(taste_matrix(users=80), seed=1, work=tmp_path / "work")
        return saved(model, tmp_path / into)

    whole = train("whole")
    (path,) = (tmp_path / "work").glob("*.pt")
    path.write_bytes(path.read_bytes()[:1000])
    assert train("torn") == whole


@pytest.mark.drill("training", "the disk is full when it writes a checkpoint", "the system's error, status 5; a rerun goes on")
def test_a_full_disk_is_the_system_s_error(tmp_path: Path) -> None:
    path = tmp_path / "dae.pt"
    checkpoint.write(path, "a", {"epoch": 1})
    path.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(path, "a", {"epoch": 2})
    found = checkpoint.read(path, "a")
    assert found is not None
    assert found["epoch"] == 1
