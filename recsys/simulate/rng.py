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


def words(seed: int, episode: Integers, step: Integers, purpose: Purpose) -> Words:
    """Uniform 64-bit words, uint64; the shape is that of ``episode`` and ``step`` broadcast, at least one-dimensional."""
    state = _mix(_array(seed) + _GAMMA)
    for part in (episode, step, int(purpose)):
        # Spreading the part first keeps neighbouring counters from cancelling each other.
        state = _mix((state ^ _mix(_array(part) + _GAMMA)) + _GAMMA)
    return state


def below(limit: Integers, seed: int, episode: Integers, step: Integers, purpose: Purpose) -> npt.NDArray[np.int64]:
    """Uniform integers from 0 to ``limit`` - 1, int64; ``limit`` may be an array, each below 2**31.

    The upper 32 bits of a word are multiplied by the limit and shifted back (Lemire, "Fast random integer generation in an
    interval", 2019, without its rejection: the bias is below limit / 2**32).
    """
    high = words(seed, episode, step, purpose) >> np.uint64(32)
    return ((high * _array(limit)) >> np.uint64(32)).astype(np.int64)


def _array(value: Integers) -> Words:
    """At least one-dimensional, because NumPy scalars warn when they wrap around and arrays do not."""
    if isinstance(value, int):
        return np.array([value & 0xFFFFFFFFFFFFFFFF], np.uint64)
    return np.atleast_1d(value).astype(np.uint64)


def _mix(z: Words) -> Words:
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))
