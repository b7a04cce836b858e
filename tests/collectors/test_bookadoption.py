"""Two connections with the same messages: the new one goes on from the book of the old one."""

from itertools import combinations

import pytest

from tests.collectors.booktruth import BINANCE, Market, is_true, synced


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(12)


@pytest.mark.parametrize("venue_class", BINANCE)
@pytest.mark.parametrize("first", [1, 3, 5, 6])
def test_a_new_connection_goes_on_from_the_old_ones_book_in_every_interleaving(
    venue_class, first, market
):
    """The new connection's messages begin with number `first`, some before the place of the old
    one and some after it."""
    venue = venue_class(market)
    states, last = venue.states(), 7
    old_numbers, new_numbers = list(range(4, last + 1)), list(range(first, last + 1))
    total = len(old_numbers) + len(new_numbers)
    for places in combinations(range(total), len(old_numbers)):
        old, new = synced(venue, 3), venue.book()
        old_left, new_left = iter(old_numbers), iter(new_numbers)
        for place in range(total):
            if place in places:
                venue.take(old, venue.message(next(old_left)))
            else:
                venue.take(new, venue.message(next(new_left)))
            before = old.view(100)
            adopted = not new.is_synced and new.adopt(old)
            assert old.view(100) == before
            if adopted or new.is_synced:
                assert is_true(new, states)
        assert new.is_synced
        assert new.sequence == venue.last_id(last)
        assert (new.resyncs, new.gaps) == (0, 0)


@pytest.mark.parametrize("venue_class", BINANCE)
def test_only_a_synchronised_book_of_the_same_symbol_is_adopted(venue_class, market):
    venue = venue_class(market)
    old, new = synced(venue, 5), venue.book()
    assert not new.adopt(old)  # nothing says yet where the new connection begins
    venue.take(new, venue.message(7))
    assert not new.adopt(old)  # message 6 is missing
    venue.take(old, venue.message(6))
    old.withhold("lost")
    assert not new.adopt(old)
    other = type(old)(old.exchange, "ETHUSDT")
    with pytest.raises(ValueError, match="ETHUSDT"):
        new.adopt(other)
