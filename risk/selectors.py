"""Reads of risk: a profile's limits, and the market around a request, as the pure rules' values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import numpy as np
import structlog
from django.db import connection

from collectors.marketdata import CandleMatrix, candle_key, floor_time, from_ms, to_ms
from collectors.models import Instrument, Series
from collectors.selectors import candle_history
from risk.declarations import DECLARATIONS, LIMIT_NAMES, limits_from
from risk.facts import (
    HOUR_MS,
    LEAD_HOURS,
    Hours,
    InstrumentFacts,
    Surroundings,
    facts_at,
    returns_at,
)
from risk.limits import STATE_ACTIVE, STATE_HALTED, STATE_REDUCING, Limits
from risk.metrics import TAIL_DAYS, Heat, portfolio_heat
from risk.models import Desk, RiskLimit, RiskProfile, TradingState
from risk.portfolio import Portfolio

log = structlog.get_logger(__name__)

TIMEFRAME = "1h"
STATE_CODES = {
    TradingState.ACTIVE.value: STATE_ACTIVE,
    TradingState.REDUCING.value: STATE_REDUCING,
    TradingState.HALTED.value: STATE_HALTED,
}
REMEMBERED = 2_000

Seen = tuple[UUID | str, int]  # which state of which series
# Facts of this process by coin and moment, each valid for the series' state beside it.
_remembered: dict[tuple[str, int], tuple[Seen, InstrumentFacts]] = {}


def limits_of(
    *, profile: RiskProfile, strategy: str = "", in_force: StateInForce | None = None
) -> Limits:
    """The profile's limits and trading state as scalars, for the requests of a strategy.

    What has no row is at its default; a profile that is not stored has defaults alone. `in_force`
    spares a query where the state was just read under the account's lock.
    """
    values: dict[str, float] = {}
    if profile.pk is not None:
        rows = profile.limits.filter(strategy__in=["", strategy], name__in=LIMIT_NAMES)
        # The strategy's own rows come last.
        for name, _, value in sorted(
            rows.values_list("name", "strategy", "value"), key=lambda row: row[1]
        ):
            values[name] = value
    in_force = in_force or state_in_force(profile=profile)
    return limits_from(values, trading_state=in_force.code)


def limit_rows(*, profile: RiskProfile) -> list[RiskLimit]:
    """The profile's limits, in the order of their declaration, then those of single strategies.

    One that has no row is an unsaved one with its default.
    """
    stored = list(profile.limits.filter(name__in=LIMIT_NAMES))
    common = {row.name: row for row in stored if not row.strategy}
    rows = [
        common.get(each.name) or RiskLimit(profile=profile, name=each.name, value=each.default)
        for each in DECLARATIONS
    ]
    return rows + [row for row in stored if row.strategy]


def surroundings_at(*, coin_ids: Iterable[str], at: datetime) -> Surroundings:
    """The facts of instruments from what had closed at a market time, and their sectors.

    Facts are remembered by the process for the revision of each series they were read at.
    """
    moment = to_ms(floor_time(at, TIMEFRAME))
    sectors, states = _known_series(sorted(set(coin_ids)))
    facts: dict[str, InstrumentFacts] = {}
    for coin_id, state in states.items():
        seen, remembered = _remembered.get((coin_id, moment), (None, None))
        if remembered is not None and seen == state:
            facts[coin_id] = remembered
    lacking = sorted(sectors.keys() - facts.keys())
    if lacking:
        hours = read_hours(
            coin_ids=lacking, start=from_ms(moment - LEAD_HOURS * HOUR_MS), end=from_ms(moment)
        )
        for column, coin_id in enumerate(lacking):
            facts[coin_id] = facts_at(hours, column, moment)
            if coin_id in states:
                _remember(coin_id, moment, states[coin_id], facts[coin_id])
    return Surroundings(facts=facts, sectors=sectors)


# Every assessment asks it, mostly under the account's lock: the ORM would take longer to write the
# two queries than the database to answer them as one.
KNOWN_SERIES = f"""
    SELECT instrument.coin_id, instrument.sector, series.identity, series.revision
    FROM {Instrument._meta.db_table} AS instrument
    LEFT JOIN {Series._meta.db_table} AS series ON series.key = %s || instrument.coin_id || %s
    WHERE instrument.coin_id IN ({{marks}})
"""
KEY_BEFORE, KEY_AFTER = candle_key("{}", TIMEFRAME).split("{}")


def _known_series(coin_ids: Sequence[str]) -> tuple[dict[str, str], dict[str, Seen]]:
    """The sectors of the instruments that there are, and the state of each one's candles."""
    sectors: dict[str, str] = {}
    states: dict[str, Seen] = {}
    if not coin_ids:
        return sectors, states
    query = KNOWN_SERIES.format(marks=", ".join(["%s"] * len(coin_ids)))
    with connection.cursor() as cursor:
        cursor.execute(query, [KEY_BEFORE, KEY_AFTER, *coin_ids])
        for coin_id, sector, identity, revision in cursor.fetchall():
            sectors[coin_id] = sector
            if revision is not None:
                states[coin_id] = (identity, revision)
    return sectors, states


def read_ahead(*, coin_ids: Iterable[str], at: datetime) -> None:
    """Read what assessments will ask of these instruments, before a lock is held: this process
    remembers it. What fails here fails there again, where it refuses."""
    try:
        surroundings_at(coin_ids=coin_ids, at=at)
    except Exception:
        log.exception("facts_not_read_ahead")


def heat_of(*, portfolio: Portfolio, at: datetime) -> Heat:
    """The portfolio's heat by what had closed at a market time, its tail by a year of days.

    Raises ValueError for a portfolio without equity.
    """
    held = sorted(portfolio.exposures)
    moment = to_ms(floor_time(at, TIMEFRAME))
    end = from_ms(moment)
    returns: dict[str, tuple[float, ...]] = {}
    if held:
        hours = read_hours(coin_ids=held, start=end - timedelta(days=TAIL_DAYS + 1), end=end)
        returns = {
            coin_id: returns_at(hours, column, moment, TAIL_DAYS)
            for column, coin_id in enumerate(held)
        }
    return portfolio_heat(portfolio, surroundings_at(coin_ids=held, at=at), returns)


def read_hours(*, coin_ids: Sequence[str], start: datetime, end: datetime) -> Hours:
    """The hourly bars that facts are computed from, of [start, end) on the grid."""
    candles = candle_history(instruments=list(coin_ids), timeframe=TIMEFRAME, start=start, end=end)
    return hours_of(candles)


def hours_of(candles: CandleMatrix) -> Hours:
    """Hourly candles as facts read them. The volume is priced at the bar's close."""
    return Hours(
        coin_ids=candles.coin_ids,
        first_open=int(candles.open_time[0]) if len(candles.open_time) else 0,
        close=candles.close,
        valid=candles.valid,
        quote_volume=np.where(candles.has_volume, candles.volume * candles.close, np.nan),
    )


def _remember(coin_id: str, moment: int, seen: Seen, facts: InstrumentFacts) -> None:
    if len(_remembered) >= REMEMBERED:
        _remembered.clear()
    _remembered[coin_id, moment] = (seen, facts)


class StateInForce(NamedTuple):
    """What an account may do now: the strictest of its own state, the desk's and staleness.

    `is_waiting`: only staleness keeps it from entering, so what wants to enter waits.
    """

    state: str
    is_waiting: bool

    @property
    def code(self) -> int:
        """The state as the pure rules know it."""
        return STATE_CODES[self.state]

    @property
    def may_enter(self) -> bool:
        """Whether exposure may be opened or added to."""
        return self.state == TradingState.ACTIVE


def read_desk() -> Desk:
    """The desk as it is committed now; an unsaved one before its first use."""
    return Desk.objects.filter(pk=Desk.ONLY).first() or Desk(pk=Desk.ONLY)


def state_in_force(*, profile: RiskProfile, desk: Desk | None = None) -> StateInForce:
    """The trading state that rules the profile's account.

    Under the account's lock with a `profile` read under it, the answer holds until the end of the
    transaction: whoever throws the desk's switch waits for this lock before answering. `desk`
    spares a query where many accounts are shown.
    """
    desk = desk or read_desk()
    own = max(profile.trading_state, desk.trading_state, key=lambda state: STATE_CODES[state])
    if desk.is_stale and own == TradingState.ACTIVE:
        return StateInForce(state=TradingState.REDUCING.value, is_waiting=True)
    return StateInForce(state=str(own), is_waiting=False)
