"""Addressed noise: scalars and arrays agree, neighbours do not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sandbox.noise import key_of, mix, mix_many, uniform, uniform_many


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8))
def test_scalars_and_arrays_agree_bit_for_bit(key: int, indexes: list[int]) -> None:
    array = np.array(indexes, dtype=np.int64)
    assert mix_many(key, array).tolist() == [mix(key, index) for index in indexes]
    assert uniform_many(key, array).tolist() == [uniform(key, index) for index in indexes]


def test_uniforms_fill_the_unit_interval() -> None:
    draws = uniform_many(key_of(1, "any"), np.arange(20_000))
    assert 0 <= draws.min() and draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.02


def test_keys_keep_parts_apart() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")
