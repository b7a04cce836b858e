"""Every test is dealt once, the longest to the beginnings of the parts."""

import pytest

from tests.plugins.order import deal


@pytest.mark.parametrize("hands", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("long", "others"), [(0, 0), (0, 9), (5, 0), (1, 2), (5, 100), (12, 3)])
def test_nothing_is_lost_or_doubled(long: int, others: int, hands: int) -> None:
    first, rest = [f"long {n}" for n in range(long)], [f"other {n}" for n in range(others)]
    dealt = deal(first, rest, hands=hands)
    assert sorted(dealt) == sorted(first + rest)
    assert [each for each in dealt if each in rest] == rest


def test_each_part_begins_with_its_share_of_the_longest() -> None:
    dealt = deal(["a", "b", "c", "d"], list(range(9)), hands=3)
    assert dealt == ["a", "d", 0, 1, "b", 2, 3, 4, "c", 5, 6, 7, 8]
