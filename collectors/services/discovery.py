"""What there is to collect: new coins by market cap, and the exchanges' own lists of symbols."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import transaction

from collectors import clock, selectors
from collectors.coingecko import NAME as COINGECKO
from collectors.coingecko import MarketRow
from collectors.exchange import ProviderError
from collectors.models import Instrument, Listing, Tier
from collectors.seeds import full_chain
from collectors.services.providers import coingecko, symbol_source
from collectors.sources import VENUES
from collectors.venues import ListedSymbol

log = structlog.get_logger(__name__)

TOP = 3
UNCLASSIFIED = "unclassified"
COIN_ID = re.compile(r"[-a-zA-Z0-9_]{1,64}")
GRID = ("tick_size", "quantity_step", "min_notional")

# By exchange, the symbols that it lists.
Lists = Mapping[str, list[ListedSymbol]]


@dataclass
class Refreshed:
    """What one look at the exchanges' lists found: listings made, listings whose grid or status
    changed, and the exchanges that could not be asked."""

    added: int = 0
    changed: int = 0
    errors: list[str] = field(default_factory=list)


def discover_instruments(*, count: int = TOP) -> list[str]:
    """Register those of the first `count` coins by market cap that are not known yet, with their
    listings; gives their ids.

    They are collected hourly, and not offered to strategies until an operator enables them. Costs
    one call, and one for each exchange when a coin is new; none while CoinGecko is no source.
    Raises ProviderError when CoinGecko cannot be asked.
    """
    if COINGECKO not in settings.CANDLE_SOURCES:
        return []
    top = coingecko().fetch_top(count)
    known = set(Instrument.objects.values_list("coin_id", flat=True))
    new = [row for row in top if row.id not in known and _is_nameable(row)]
    if not new:
        return []
    lists, errors = _ask_exchanges()
    for row in new:
        made = _register(row, lists)
        log.info("instrument_discovered", coin_id=row.id, listings=made, errors=errors)
    return [row.id for row in new]


def refresh_listings() -> Refreshed:
    """Compare every listing that is valid now with its exchange's list: tick, step, smallest
    notional, and whether it trades. What changed is logged and stored; where a collected
    instrument has no listing at an exchange that lists its ticker in USDT, one is made.

    One call for each allowed exchange (a few where lists come in pages). Provider errors are in
    the result, and leave that exchange's listings as they are.
    """
    lists, errors = _ask_exchanges()
    result = Refreshed(errors=errors)
    at = clock.now()
    for instrument in selectors.enabled_instruments():
        for exchange, symbols in lists.items():
            listing = selectors.listing_for(instrument=instrument, exchange=exchange, at=at)
            if listing is not None:
                result.changed += _compare(listing, {item.symbol: item for item in symbols})
            elif not selectors.listings_at(instrument=instrument, exchange=exchange):
                result.added += _list_at(instrument, symbols)
    return result


def _ask_exchanges() -> tuple[dict[str, list[ListedSymbol]], list[str]]:
    lists: dict[str, list[ListedSymbol]] = {}
    errors: list[str] = []
    for exchange in VENUES:
        if exchange not in settings.CANDLE_SOURCES:
            continue
        try:
            symbols = symbol_source(exchange).fetch_symbols()
        except ProviderError as error:
            log.warning("symbols_failed", exchange=exchange, problem=str(error))
            errors.append(f"{exchange}: {error}")
            continue
        if symbols:
            lists[exchange] = symbols
        else:
            # An exchange without any symbol is no reason to believe that all have gone.
            errors.append(f"{exchange}: it lists no symbol")
    return lists, errors


def _is_nameable(row: MarketRow) -> bool:
    is_nameable = COIN_ID.fullmatch(row.id) is not None and 0 < len(row.symbol) <= 16
    if not is_nameable:
        log.warning("instrument_not_registered", coin_id=row.id, ticker=row.symbol)
    return is_nameable


@transaction.atomic
def _register(row: MarketRow, lists: Lists) -> int:
    """Make the instrument and its listings; gives how many these are."""
    instrument, is_new = Instrument.objects.get_or_create(
        coin_id=row.id,
        defaults={
            "symbol": row.symbol.upper(),
            "name": row.name[:64],
            "sector": UNCLASSIFIED,
            "tier": Tier.HOURLY,
            "source_chain": full_chain(),
            "is_strategy_enabled": False,
        },
    )
    if not is_new:
        return 0
    made = sum(_list_at(instrument, symbols) for symbols in lists.values())
    if not made:
        instrument.source_chain = [COINGECKO]
        instrument.save(update_fields=["source_chain"])
    return made


def _list_at(instrument: Instrument, symbols: list[ListedSymbol]) -> int:
    """Make the listing of the instrument's ticker; gives 0 where the exchange has none."""
    for item in symbols:
        if item.base_asset == instrument.symbol and item.is_trading:
            Listing.objects.create(
                instrument=instrument,
                exchange=item.exchange,
                symbol=item.symbol,
                **{name: getattr(item, name) for name in GRID},
            )
            log.info("listing_found", exchange=item.exchange, symbol=item.symbol)
            return 1
    return 0


def _compare(listing: Listing, symbols: Mapping[str, ListedSymbol]) -> bool:
    """Store what the exchange says of a listing now; gives whether that is anything new."""
    item = symbols.get(listing.symbol)
    changed: dict[str, object] = {}
    if item is not None:
        changed |= {
            name: getattr(item, name)
            for name in GRID
            if Decimal(getattr(item, name)) != Decimal(getattr(listing, name))
        }
    is_trading = item is not None and item.is_trading
    if is_trading != listing.is_trading:
        changed["is_trading"] = is_trading
    if not changed:
        return False
    log.warning(
        "listing_changed",
        exchange=listing.exchange,
        symbol=listing.symbol,
        was={name: getattr(listing, name) for name in changed},
        now=changed,
    )
    Listing.objects.filter(pk=listing.pk).update(**changed)
    return True
