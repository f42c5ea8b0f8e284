"""Counter-based random numbers: each is a function of (seed, episode, step, purpose) and of nothing else.

In go integers, scalars or arrays; out come uint64 words, or uniform integers made from them. No state exists, so that order,
batch size and number of processes cannot change a draw.

The mixer is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
with the constants that Vigna published as ``splitmix64.c``); a key is absorbed part by part, each spread by the golden gamma of
the same paper.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_HALF, _A, _B, _C = np.uint64(32), np.uint64(30), np.uint64(27), np.uint64(31)
#: A step's counter has room for this many purposes.
_PURPOSES = 16

Words = npt.NDArray[np.uint64]
Integers = int | npt.NDArray[np.int64]


class Purpose(IntEnum):
    """What a random number decides; the last part of its key."""

    USER = 1
    INTEREST = 2
    FIRST_TRACK = 3
    BUDGET = 4
    SHARD = 5
    RECOMMENDATION = 6


def keys(seed: int, episode: Integers) -> Words:
    """One key an episode, uint64, at least one-dimensional: what its draws start from."""
    return _absorb(_mix(_array(seed) + _GAMMA), episode)


def words(key: Words, step: Integers, purpose: Purpose) -> Words:
    """A uniform 64-bit word for each key (and step, if that is an array)."""
    return _absorb(key, step * _PURPOSES + purpose)


def below(limit: Integers, key: Words, step: Integers, purpose: Purpose) -> npt.NDArray[np.int64]:
    """Uniform integers from 0 to ``limit`` - 1, int64; ``limit`` may be an array, each from 1 to 2**31.

    The upper 32 bits of a word are multiplied by the limit and shifted back (Lemire, "Fast random integer generation in an
    interval", 2019, without its rejection: the bias is below limit / 2**32).

    An episode's draw is the same alone and in a batch:

    >>> below(100, keys(31337, np.arange(4)), 0, Purpose.USER).tolist()
    [27, 59, 78, 90]
    >>> below(100, keys(31337, 2), 0, Purpose.USER).tolist()
    [78]
    """
    high = words(key, step, purpose) >> _HALF
    return ((high * _array(limit)) >> _HALF).astype(np.int64)


def _absorb(state: Words, part: Integers) -> Words:
    # Mixing the part on its own first keeps neighbouring counters of neighbouring keys from meeting.
    return _mix((state ^ _mix(_array(part) + _GAMMA)) + _GAMMA)


def _array(value: Integers) -> Words:
    """At least one-dimensional, because NumPy scalars warn when they wrap around and arrays do not."""
    if isinstance(value, int):
        return np.array([value & 0xFFFFFFFFFFFFFFFF], np.uint64)
    return np.atleast_1d(value).astype(np.uint64)


def _mix(z: Words) -> Words:
    z = (z ^ (z >> _A)) * _FIRST
    z = (z ^ (z >> _B)) * _SECOND
    return z ^ (z >> _C)
