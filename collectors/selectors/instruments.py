"""Which instruments there are, and what they are called where."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Exists, OuterRef, Q

from collectors.marketdata import EPOCH
from collectors.models import Instrument, Listing, Tier


def enabled_instruments(*, tier: str | None = None) -> list[Instrument]:
    """The instruments that are collected, high-frequency ones first."""
    instruments = Instrument.objects.filter(is_enabled=True).prefetch_related("listings")
    if tier is not None:
        instruments = instruments.filter(tier=tier)
    return sorted(instruments, key=lambda item: (item.tier != Tier.HIGH_FREQUENCY, item.coin_id))


def strategy_instruments(*, at: datetime) -> list[Instrument]:
    """The instruments offered to strategies: enabled for them, and listed somewhere at `at`.

    A coin that only CoinGecko knows cannot be traded, and its candles have no true extremes.
    """
    listed = Listing.objects.filter(_valid(at), instrument=OuterRef("pk"))
    instruments = Instrument.objects.filter(
        Exists(listed), is_enabled=True, is_strategy_enabled=True
    )
    return list(instruments.order_by("coin_id"))


def instrument_by_coin_id(coin_id: str) -> Instrument:
    """The instrument. Raises Instrument.DoesNotExist."""
    return Instrument.objects.get(coin_id=coin_id)


def listing_for(*, instrument: Instrument, exchange: str, at: datetime) -> Listing | None:
    """The symbol that is valid at `at`; where two are, the one that is valid longest."""
    for listing in listings_at(instrument=instrument, exchange=exchange):
        starts, ends = listing.valid_from, listing.valid_to
        if (starts is None or starts <= at) and (ends is None or at < ends):
            return listing
    return None


def symbols_at(*, instrument_ids: Iterable[int], at: datetime) -> dict[tuple[str, int], str]:
    """The symbols valid at `at` by (exchange, instrument's id), chosen as `listing_for` does."""
    rows = Listing.objects.filter(_valid(at), instrument__in=set(instrument_ids))
    by_length = sorted(
        rows.order_by().values_list("exchange", "instrument", "symbol", "valid_to"),
        key=lambda row: (row[3] is None, row[3] or EPOCH),
    )
    return {(exchange, pk): symbol for exchange, pk, symbol, _ in by_length}


def off_market(*, keys: Iterable[tuple[str, int]], at: datetime) -> set[tuple[str, int]]:
    """Those of `keys` (exchange, instrument's id) that cannot be traded at `at`: nothing is listed
    then, or what `listing_for` chooses does not trade, as the exchange's list said last."""
    wanted = set(keys)
    rows = Listing.objects.filter(_valid(at), instrument__in={pk for _, pk in wanted})
    by_length = sorted(
        rows.order_by().values_list("exchange", "instrument", "is_trading", "valid_to"),
        key=lambda row: (row[3] is None, row[3] or EPOCH),
    )
    trades = {(exchange, pk): is_trading for exchange, pk, is_trading, _ in by_length}
    return {key for key in wanted if not trades.get(key, False)}


def listings_at(*, instrument: Instrument, exchange: str) -> list[Listing]:
    """The instrument's symbols at an exchange, the one that is valid longest first.

    Ordered here and not in the query: databases disagree where a missing end belongs.
    """
    listings = [item for item in instrument.listings.all() if item.exchange == exchange]
    return sorted(
        listings, key=lambda item: (item.valid_to is None, item.valid_to or EPOCH), reverse=True
    )


def _valid(at: datetime) -> Q:
    return (Q(valid_from=None) | Q(valid_from__lte=at)) & (Q(valid_to=None) | Q(valid_to__gt=at))
