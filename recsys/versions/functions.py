"""The functions that run inside Redis (``functions.lua``), loaded under names that hold the version of their text.

Names of functions are global in Redis. So an old program and a new one that work side by side while one takes the other's place
each call the functions that they were written with.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import redis


@dataclass(frozen=True)
class Library:
    """A library of functions; ``LIBRARY`` in its text stands for its name.

    >>> library = Library("#!lua name=LIBRARY\\nredis.register_function('LIBRARY_one', function() return 1 end)")
    >>> library.name, library.function("one")
    ('recsys_99f7915b', 'recsys_99f7915b_one')
    """

    text: str

    @cached_property
    def name(self) -> str:
        """Its name in Redis: 8 hexadecimal digits tell its text from others."""
        return f"recsys_{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"

    @property
    def code(self) -> str:
        """What Redis loads."""
        return self.text.replace("LIBRARY", self.name)

    def function(self, name: str) -> str:
        """The name of a function in Redis."""
        return f"{self.name}_{name}"

    def is_there(self, error: str) -> bool:
        """Whether Redis refused to load it because it is loaded."""
        return f"Library '{self.name}' already exists" in error

    def load(self, client: redis.Redis) -> None:
        """Load it unless Redis has it."""
        try:
            client.function_load(self.code)
        except redis.ResponseError as error:
            if not self.is_there(str(error)):
                raise


LIBRARY = Library(Path(__file__).with_name("functions.lua").read_text(encoding="utf-8"))
