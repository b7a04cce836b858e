"""What a strategy's certificate is worth now, and which stored history the strategy can be tried
on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from collectors import clock
from collectors.marketdata import duration, floor_time, last_closed
from collectors.models import Instrument, Ohlcv
from collectors.selectors import strategy_instruments
from signals.catalog import strategy_of
from signals.codehash import code_hash
from signals.models import StrategyConfig
from signals.parameters import ParameterError
from signals.registry import UnknownStrategy
from signals.selectors import Member, load_history
from signals.strategy import Market, Strategy, StrategyError
from signals.worlds import INSTRUMENTS

LONGEST = timedelta(days=3 * 365)
MOST_COINS = 10
BASE_TIMEFRAME = "1h"  # what longer timeframes are made of


class CertificateState(StrEnum):
    """Whether a strategy may run."""

    VALID = "certified"
    DUE = "being certified"
    FAILED = "failed"
    IMPOSSIBLE = "cannot be built"


def certificate_state(config: StrategyConfig) -> CertificateState:
    """Whether the stored certificate is for the present code and the stored parameters; when it is
    not, whether one is being made, or was made and failed."""
    try:
        present = code_hash(strategy_of(config))
    except (UnknownStrategy, ParameterError, StrategyError):
        return CertificateState.IMPOSSIBLE
    if config.certificate_hash == present:
        return CertificateState.VALID
    if config.certificate_detail.get("code_hash") == present and not config.certificate_hash:
        return CertificateState.FAILED
    return CertificateState.DUE


def waits_for_parameters(config: StrategyConfig) -> bool:
    """Whether new parameters wait for their certificate; those that failed it do not."""
    return "parameters" in config.pending and "certificate" not in config.pending


def stored_market(*, strategy: Strategy, coin_ids: Sequence[str]) -> Market | None:
    """The stored history of these coins (of some that are offered when there are none, the best
    known first), up to three years of it; None when nothing is stored. Raises StrategyError."""
    wanted = [*coin_ids, *INSTRUMENTS]
    if not coin_ids:
        wanted += [instrument.coin_id for instrument in strategy_instruments(at=clock.now())]
    known = set(Instrument.objects.filter(coin_id__in=wanted).values_list("coin_id", flat=True))
    coins = [coin_id for coin_id in dict.fromkeys(wanted) if coin_id in known][:MOST_COINS]
    first = _first_bar(coins, strategy.timeframe)
    step = duration(strategy.timeframe)
    end = last_closed(clock.now(), strategy.timeframe) + step
    if first is None or first >= end:
        return None
    start = floor_time(max(first, end - LONGEST), strategy.timeframe) + step
    history = load_history(
        coin_ids=coins, members={strategy.name: Member(strategy=strategy)}, start=start, end=end
    )
    market = history.market
    begin = int((market.open_time < int(start.timestamp() * 1000)).sum())
    return market.rows(begin, len(market.open_time))


def _first_bar(coin_ids: Sequence[str], timeframe: str) -> datetime | None:
    """When the first stored candle of any of these coins opened."""
    kinds = {timeframe, BASE_TIMEFRAME} if duration(timeframe) > duration("1h") else {timeframe}
    firsts = [
        Ohlcv.objects.filter(instrument__coin_id=coin_id, timeframe=kind)
        .order_by("open_time")
        .values_list("open_time", flat=True)
        .first()
        for coin_id in coin_ids
        for kind in sorted(kinds)
    ]
    return min((first for first in firsts if first is not None), default=None)
