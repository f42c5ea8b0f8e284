"""Invented artist names and track titles, built from syllables.

In goes a count and a random generator; out come that many plausible names. Artists differ from each other; titles may repeat, as
real ones do.
"""

from collections.abc import Iterator

import numpy as np

_ONSETS = "b bl br c ch cl cr d dr f fl g gl gr h j k kl l m n p pr r s sh sk sl st t th tr v w z".split()  # noqa: SIM905
_VOWELS = ["a", "a", "a", "e", "e", "e", "i", "i", "o", "o", "u", "ai", "au", "ea", "ee", "ia", "io", "oa", "oo", "ou"]
_CODAS = ["", "", "", "", "l", "m", "n", "n", "nd", "ng", "r", "r", "rn", "s", "st", "t", "th", "x"]
_FORMS = (
    "{a} {b}", "{a} {b}", "{a} {b}", "The {p}", "The {p}", "{a}", "{a} & The {p}", "{p}", "DJ {a}", "{a} {b} Trio", "{a} and {b}",
)  # fmt: skip
_TITLES = (
    "{a}", "{a} {b}", "{a} {b}", "The {a}", "{a} of {b}", "My {a}", "{a} in {b}", "Never {a}", "{a}, {b}", "No More {a}",
    "{a} {b} (Live)", "When {a} Comes", "Dear {a}", "{a} and {b}",
)  # fmt: skip


def artist_names(count: int, rng: np.random.Generator) -> list[str]:
    """``count`` different artist names.

    >>> artist_names(3, np.random.default_rng(31337))
    ['Rocrooshior & The Rocrooshiors', 'The Fes', 'Shogrin Klastauglern']
    """
    names: dict[str, None] = {}
    words = _words(rng)
    while len(names) < count:
        for form in rng.integers(0, len(_FORMS), count).tolist():
            first, second = next(words), next(words)
            plural = first if first.endswith("s") else first + "s"
            names[_FORMS[form].format(a=first, b=second, p=plural)] = None
    return list(names)[:count]


def titles(count: int, rng: np.random.Generator) -> list[str]:
    """``count`` track titles."""
    words = _words(rng)
    forms = rng.integers(0, len(_TITLES), count).tolist()
    return [_TITLES[form].format(a=next(words), b=next(words)) for form in forms]


def _words(rng: np.random.Generator) -> Iterator[str]:
    """Endless capitalised words of one to three syllables, two most often."""
    block = 4096
    while True:
        syllables = rng.choice([1, 2, 2, 2, 3], block).tolist()
        onsets = rng.choice(_ONSETS, (block, 3)).tolist()
        vowels = rng.choice(_VOWELS, (block, 3)).tolist()
        codas = rng.choice(_CODAS, block).tolist()
        for i, n in enumerate(syllables):
            yield ("".join(onsets[i][k] + vowels[i][k] for k in range(n)) + codas[i]).capitalize()
