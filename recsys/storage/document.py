"""Typed JSON files of published directories: what one step writes for another.

In goes a value of a :class:`Document`; out comes a file that reads back as an equal one, or an error that names the field.
"""

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.exceptions import CorruptDataError
from recsys.storage.layout import Dated

if TYPE_CHECKING:
    from recsys.storage.store import Storage


class Readable(Protocol):
    """What :meth:`recsys.storage.store.Storage.read` gives: a file's name, and how its text is read."""

    FILE: ClassVar[str]

    @classmethod
    def parse(cls, text: bytes, where: str) -> Self:
        """The value; ``where`` is what it is called, for people."""


def refuse(where: str, error: ValidationError) -> CorruptDataError:
    """The error of a text that cannot be read; it names the first field that is wrong."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or "the whole"
    return CorruptDataError(f"{where}: {field} cannot be taken: {first['msg']}; restore or rebuild it")


class Part(BaseModel):
    """A part of a document. What a later version of the program may have added is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, validate_by_name=True, protected_namespaces=())


class Document(Part):
    """A JSON file with a name of its own; ``KIND`` is where it stands, if it belongs to a log date."""

    FILE: ClassVar[str]
    KIND: ClassVar[Dated]

    def to_json(self) -> str:
        """The text of the file, fields in the order of the class."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, directory: Path) -> None:
        """Write the file into a directory that is being made."""
        (directory / self.FILE).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def parse(cls, text: bytes | str, where: str) -> Self:
        """Read what :meth:`to_json` gave.

        Args:
            where: what it is called, for people.

        Raises:
            CorruptDataError: it is no such document; the message names the first field that is wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise refuse(where, error) from None

    @classmethod
    def read(cls, store: "Storage", log_date: date) -> Self:
        """The document of a log date.

        Raises:
            MissingDataError: it has not been published. CorruptDataError: it cannot be read.
        """
        return store.read(cls, cls.KIND.on(log_date))

    @classmethod
    def find(cls, store: "Storage", log_date: date) -> Self | None:
        """The document of a log date, or None if there is none yet.

        Raises:
            CorruptDataError: it cannot be read.
        """
        return cls.read(store, log_date) if store.is_complete(cls.KIND.on(log_date)) else None
