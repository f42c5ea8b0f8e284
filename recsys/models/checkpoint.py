"""Checkpoints: where a training stands, so that a killed one goes on.

In goes all that the next step depends on; out comes the same, if it is of the same training and whole.
"""

import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def write(path: Path, identity: str, state: Mapping[str, object]) -> None:
    """Replace the checkpoint.

    Args:
        identity: of data, seed and hyperparameters. state: tensors, numbers and texts, and dictionaries and lists of them.
    """
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    # In memory first: what the system refuses to PyTorch's own writer, such as room on a disk, is told as something else.
    buffer = io.BytesIO()
    torch.save({"identity": identity, **state}, buffer)
    with partial.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def read(path: Path, identity: str) -> dict[str, Any] | None:
    """The state of the checkpoint; None if there is none of this training, or if it is damaged."""
    import torch

    if not path.exists():
        return None
    try:
        saved = torch.load(path, weights_only=True)
        found: str = saved["identity"]
    except Exception as error:  # PyTorch raises what its readers of files, archives and pickles raise
        log.warning("checkpoint %s is damaged (%s); training begins anew", path, type(error).__name__)
        return None
    return saved if found == identity else None
