"""Which instrument a name from outside means at a moment. Names are compared as they are: a symbol
in other letters is another symbol."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db.models import Q

from collectors.models import Instrument, Listing


def instruments_named(*, names: Collection[str]) -> list[Instrument]:
    """Those that one of the names could mean at some time, with their listings; two queries."""
    called = Q(coin_id__in=names) | Q(symbol__in=names) | Q(listings__symbol__in=names)
    found = Instrument.objects.filter(called).prefetch_related("listings")
    return list(found.distinct().order_by("coin_id"))


def known_names(instrument: Instrument) -> set[str]:
    """Everything that the instrument is or ever was called."""
    symbols = {listing.symbol for listing in instrument.listings.all()}
    return {instrument.coin_id, instrument.symbol, *symbols}


def is_named(instrument: Instrument, name: str, *, at: datetime) -> bool:
    """Whether a name means the instrument at `at` (market time): its coin id always, a symbol of
    an exchange while the listing is valid, its ticker while any is."""
    if name == instrument.coin_id:
        return True
    valid = [listing for listing in instrument.listings.all() if _is_valid(listing, at)]
    if name == instrument.symbol:
        return bool(valid)
    return any(listing.symbol == name for listing in valid)


def _is_valid(listing: Listing, at: datetime) -> bool:
    starts, ends = listing.valid_from, listing.valid_to
    return (starts is None or starts <= at) and (ends is None or at < ends)
