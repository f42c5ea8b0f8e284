"""``world.json``: what a generated world was made from, and how any world has grown since.

In goes a world directory; out comes a :class:`WorldRecord`. A step of growth is written down before it begins, so that whoever
finds it unfinished knows what to finish, and with a checksum once it is done.
"""

import hashlib
import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from recsys import catalog
from recsys.exceptions import WorldError
from recsys.simulate.listeners import EMBEDDINGS

RECORD = "world.json"
ENV = "env.yml"
#: What a world may consist of, beside this record.
FILES = (catalog.TRACKS, EMBEDDINGS, catalog.USERS, catalog.TOP_TRACKS, ENV)


class GrowthStep(BaseModel):
    """One step of growth.

    Attributes:
        users, tracks: how many were appended. retired: the tracks that were retired. seed: what was drawn from.
        log_date: whose traffic it came before, ``YYYY-MM-DD``; "" if a person let the world grow.
        users_before, tracks_before: sizes before it. checksum: of the files after it; "" while it is under way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    users: NonNegativeInt
    tracks: NonNegativeInt
    retired: list[NonNegativeInt]
    seed: NonNegativeInt
    log_date: str
    users_before: PositiveInt
    tracks_before: PositiveInt
    checksum: str = ""

    @property
    def users_after(self) -> int:
        """How many there are then."""
        return self.users_before + self.users

    @property
    def tracks_after(self) -> int:
        """How many there are then, retired ones included."""
        return self.tracks_before + self.tracks


class WorldRecord(BaseModel):
    """The contents of ``world.json``; a world that was neither generated nor has grown has none.

    Attributes:
        parameters: what it was generated from; none if it was not. checksum: of its files then. growth: steps since, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    parameters: dict[str, int] | None = None
    checksum: str | None = None
    growth: list[GrowthStep] = []

    @classmethod
    def read(cls, world: Path) -> Self:
        """Read the record of a world directory; an empty one if there is none.

        Raises:
            WorldError: it cannot be read, or is no such record.
        """
        path = world / RECORD
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise WorldError(f"{path} cannot be read ({error.strerror})") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the whole"
            message = f"{path} is no record of a world: {field}: {first['msg']}; restore it, or move it away"
            raise WorldError(message) from None

    def write(self, world: Path) -> None:
        """Write the record; it appears by one rename."""
        replace_file(world / RECORD, self.model_dump_json(indent=1, exclude_none=True).encode() + b"\n")

    @property
    def pending(self) -> GrowthStep | None:
        """The step that was begun and has not ended."""
        return self.growth[-1] if self.growth and not self.growth[-1].checksum else None

    def step_of(self, log_date: str) -> GrowthStep | None:
        """The step that came before the traffic of a log date."""
        return next((step for step in self.growth if step.log_date == log_date), None)

    def begun(self, step: GrowthStep) -> Self:
        """With one more step."""
        return self.model_copy(update={"growth": [*self.growth, step]})

    def ended(self, checksum: str) -> Self:
        """With a checksum for the step under way."""
        last = self.growth[-1].model_copy(update={"checksum": checksum})
        return self.model_copy(update={"growth": [*self.growth[:-1], last]})


def checksum_of(world: Path) -> str:
    """SHA-256 over names and contents of the files that are there."""
    total = hashlib.sha256()
    for name in FILES:
        path = world / name
        if path.is_file():
            with path.open("rb") as file:
                total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def partial_of(path: Path) -> Path:
    """Where a file's next content stands until it is whole."""
    return path.with_name(f".{path.name}.next")


def replace_file(path: Path, content: bytes) -> None:
    """Give a file another content by one rename; it keeps its mode."""
    partial = partial_of(path)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            partial.chmod(path.stat().st_mode & 0o777)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
