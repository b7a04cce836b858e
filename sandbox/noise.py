"""Random numbers by address: a uniform for any (key, index), without a sequence. Pure.

The mixing function is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
generators, OOPSLA 2014). Scalars and arrays give bit-identical values, so that a quote computed
alone equals the same level computed inside a whole book.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_TO_UNIT = 2.0**-53


def key_of(*parts: int | str) -> int:
    """A 64-bit key for a path of names and numbers, such as `(seed, "bitcoin", "minutes")`."""
    digest = hashlib.blake2b("\x1f".join(str(part) for part in parts).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def mix(key: int, index: int) -> int:
    """64 mixed bits for one index; negative indexes are allowed."""
    z = (key + (index + 1) * _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def uniform(key: int, index: int) -> float:
    """One float in [0, 1) for one index."""
    return (mix(key, index) >> 11) * _TO_UNIT


def mix_many(
    keys: NDArray[np.uint64] | int, indexes: NDArray[np.int64] | NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """The bits of `mix` for broadcast arrays of keys and indexes."""
    with np.errstate(over="ignore"):
        z = np.asarray(indexes).astype(np.uint64) + np.uint64(1)
        z = z * np.uint64(_GAMMA) + np.asarray(keys, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
    return z ^ (z >> np.uint64(31))


def uniform_many(
    keys: NDArray[np.uint64] | int, indexes: NDArray[np.int64] | NDArray[np.uint64]
) -> NDArray[np.float64]:
    """The floats of `uniform` for broadcast arrays of keys and indexes."""
    return (mix_many(keys, indexes) >> np.uint64(11)).astype(np.float64) * _TO_UNIT
