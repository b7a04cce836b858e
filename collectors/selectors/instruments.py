"""Which instruments there are, and what they are called where."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Exists, OuterRef, Q

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
    listings = [
        listing
        for listing in instrument.listings.all()
        if listing.exchange == exchange
        and (listing.valid_from is None or listing.valid_from <= at)
        and (listing.valid_to is None or at < listing.valid_to)
    ]
    listings.sort(key=lambda item: (item.valid_to is None, item.valid_to or at), reverse=True)
    return listings[0] if listings else None


def _valid(at: datetime) -> Q:
    return (Q(valid_from=None) | Q(valid_from__lte=at)) & (Q(valid_to=None) | Q(valid_to__gt=at))
