"""The instruments and macro series a new installation starts with.

A seed makes what is missing and never changes what an operator has edited. Sources of the price
grids: the exchanges' instrument lists (tickSize, stepSize / qtyStep, MIN_NOTIONAL).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction

from collectors.macro_registry import MACRO_SERIES
from collectors.models import Instrument, Listing, MacroSeries, Tier, default_source_chain
from collectors.sources import EXCHANGES, VENUES

# FET, AGIX and OCEAN merged into one token; AGIX and OCEAN pairs ended.
# https://www.binance.com/en/support/announcement (2024-07-01 03:00 UTC)
ASI_MERGER = datetime(2024, 7, 1, 3, tzinfo=UTC)
# RNDR became RENDER; the old symbol ended.
RENDER_RENAMED = datetime(2024, 7, 22, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Symbol:
    """An instrument's symbol at the exchanges, valid until `valid_to`.

    It has no beginning: an exchange says itself from when on it has candles.
    """

    name: str
    tick_size: str
    quantity_step: str
    min_notional: str = "5"
    valid_to: datetime | None = None


@dataclass(frozen=True)
class Seed:
    """One instrument; without symbols it is known to CoinGecko only."""

    coin_id: str
    ticker: str
    name: str
    sector: str
    symbols: tuple[Symbol, ...]
    tier: Tier = Tier.HOURLY
    exchanges_only: bool = False


INSTRUMENTS = (
    Seed(
        "bitcoin",
        "BTC",
        "Bitcoin",
        "store of value",
        (Symbol("BTCUSDT", "0.1", "0.001", "100"),),
        Tier.HIGH_FREQUENCY,
    ),
    Seed(
        "ethereum",
        "ETH",
        "Ethereum",
        "layer 1",
        (Symbol("ETHUSDT", "0.01", "0.001", "20"),),
        Tier.HIGH_FREQUENCY,
    ),
    Seed("tether", "USDT", "Tether", "stablecoin", ()),
    Seed("solana", "SOL", "Solana", "layer 1", (Symbol("SOLUSDT", "0.001", "0.01"),)),
    Seed("ripple", "XRP", "XRP", "payments", (Symbol("XRPUSDT", "0.00001", "0.1"),)),
    Seed("bittensor", "TAO", "Bittensor", "ai", (Symbol("TAOUSDT", "0.01", "0.001"),)),
    Seed("fetch-ai", "FET", "Fetch.ai", "ai", (Symbol("FETUSDT", "0.0001", "1"),)),
    Seed(
        "singularitynet",
        "AGIX",
        "SingularityNET",
        "ai",
        (Symbol("AGIXUSDT", "0.00001", "1", valid_to=ASI_MERGER),),
    ),
    Seed(
        "render-token",
        "RENDER",
        "Render",
        "ai",
        (
            Symbol("RENDERUSDT", "0.0001", "0.1"),
            Symbol("RNDRUSDT", "0.0001", "0.1", valid_to=RENDER_RENAMED),
        ),
    ),
    Seed(
        "ocean-protocol",
        "OCEAN",
        "Ocean Protocol",
        "ai",
        (Symbol("OCEANUSDT", "0.00001", "1", valid_to=ASI_MERGER),),
    ),
    Seed(
        "binancecoin",
        "BNB",
        "BNB",
        "exchange",
        (Symbol("BNBUSDT", "0.01", "0.01"),),
        exchanges_only=True,
    ),
    Seed(
        "cardano",
        "ADA",
        "Cardano",
        "layer 1",
        (Symbol("ADAUSDT", "0.00001", "1"),),
        exchanges_only=True,
    ),
    Seed(
        "polkadot",
        "DOT",
        "Polkadot",
        "layer 0",
        (Symbol("DOTUSDT", "0.001", "0.1"),),
        exchanges_only=True,
    ),
    Seed(
        "dogecoin",
        "DOGE",
        "Dogecoin",
        "meme",
        (Symbol("DOGEUSDT", "0.00001", "1"),),
        exchanges_only=True,
    ),
    Seed(
        "chainlink",
        "LINK",
        "Chainlink",
        "oracle",
        (Symbol("LINKUSDT", "0.001", "0.01"),),
        exchanges_only=True,
    ),
)


@transaction.atomic
def seed_instruments() -> int:
    """Make the instruments that are missing, with their listings; gives how many were made."""
    stored = set(Instrument.objects.values_list("coin_id", flat=True))
    missing = {seed.coin_id: seed for seed in INSTRUMENTS if seed.coin_id not in stored}
    # Somebody may add one of them meanwhile.
    Instrument.objects.bulk_create(
        (_instrument(seed) for seed in missing.values()), ignore_conflicts=True
    )
    made = list(Instrument.objects.filter(coin_id__in=missing))
    listings = (
        Listing(
            instrument=instrument,
            exchange=exchange,
            symbol=symbol.name,
            valid_to=symbol.valid_to,
            tick_size=symbol.tick_size,
            quantity_step=symbol.quantity_step,
            min_notional=symbol.min_notional,
        )
        for instrument in made
        for exchange in EXCHANGES
        for symbol in missing[instrument.coin_id].symbols
    )
    Listing.objects.bulk_create(listings, ignore_conflicts=True)
    return len(made)


def _instrument(seed: Seed) -> Instrument:
    return Instrument(
        coin_id=seed.coin_id,
        symbol=seed.ticker,
        name=seed.name,
        sector=seed.sector,
        tier=seed.tier,
        timeframes=["15m", "1h"] if seed.tier == Tier.HIGH_FREQUENCY else ["1h"],
        source_chain=_chain(seed),
        is_strategy_enabled=bool(seed.symbols),
    )


def _chain(seed: Seed) -> list[str]:
    """The sources of a seed."""
    if not seed.symbols:
        return ["coingecko"]
    return [name for name in full_chain() if name in VENUES or not seed.exchanges_only]


def full_chain() -> list[str]:
    """All sources, those of CANDLE_SOURCES first and in its order. The others are not asked, but
    have their place when the setting comes to name them: exchanges before the price samples at its
    end."""
    allowed = list(settings.CANDLE_SOURCES)
    samples = allowed[-1:] if allowed and allowed[-1] not in VENUES else []
    exchanges = [name for name in default_source_chain() if name in VENUES]
    head = allowed[: len(allowed) - len(samples)]
    return list(dict.fromkeys([*head, *exchanges, *samples, *default_source_chain()]))


def seed_macro_series() -> int:
    """Make the macro series that are missing; gives how many were made."""
    stored = set(MacroSeries.objects.values_list("series_id", flat=True))
    missing = [
        MacroSeries(
            series_id=series_id, name=facts.name, units=facts.units, frequency=facts.frequency
        )
        for series_id, facts in MACRO_SERIES.items()
        if series_id not in stored
    ]
    MacroSeries.objects.bulk_create(missing, ignore_conflicts=True)
    return len(missing)
