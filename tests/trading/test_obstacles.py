"""What stands in one instrument's way holds up neither its own close nor another instrument."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from collectors import clock
from collectors.marketdata import Quote
from collectors.models import Listing, Ohlcv
from risk.models import RiskDecision
from trading.models import Account, Fill, Order, PendingSignal, Position, Trade
from trading.selectors import account_portfolio
from trading.services import NoQuoteError, advance_account, close_position, reconcile
from trading.services.quotes import is_usable

START = datetime(2021, 5, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db


def hold_bitcoin(world: Any, account: Account) -> None:
    world.candle("bitcoin", START, (100.0, 101.0, 99.0, 100.0))
    world.signal("bitcoin", 1, START)
    world.run(START)
    world.at(START + HOUR)
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)


def turn_to(world: Any, account: Account, direction: int) -> None:
    """The next bar wants bitcoin in another direction; quotes are the caller's."""
    world.signal("bitcoin", direction, START + HOUR)
    world.run(START + HOUR)
    world.at(START + 2 * HOUR)


def test_a_flip_that_cannot_be_counted_still_closes(world: Any, account: Account) -> None:
    hold_bitcoin(world, account)
    # On the new grid a step is worth so little that the order has more steps than books count.
    Listing.objects.update(quantity_step="0.0000000001")
    turn_to(world, account, -1)
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)
    assert Position.objects.get().quantity_steps == 0
    assert Trade.objects.get().exit_reason == "flip"
    refusal = RiskDecision.objects.get(is_approved=False)
    assert (refusal.rejection_reason, refusal.direction) == ("not_countable", -1)
    assert refusal.inputs["context"]["quote"]["best_bid"] == 100.0
    filled = Order.objects.filter(status="filled").order_by("id")
    assert list(filled.values_list("leg", flat=True)) == ["open", "close"]
    assert not Order.objects.filter(status="working").exists()
    assert not PendingSignal.objects.exists()
    assert reconcile(account_id=account.pk).mismatches == ()


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf])
def test_a_price_that_is_no_number_is_not_usable(world: Any, price: float) -> None:
    now = clock.now()
    sound = Quote(
        exchange="binance",
        symbol="BITCOINUSDT",
        best_bid=100.0,
        bid_quantity=1.0,
        best_ask=100.1,
        ask_quantity=1.0,
        event_time=now,
        received_at=now,
        sequence=1,
    )
    assert is_usable(sound, since=None, now=now)
    for side in ("best_bid", "best_ask"):
        assert not is_usable(msgspec.structs.replace(sound, **{side: price}), since=None, now=now)


UNUSABLE = {
    "absent": None,
    "zero": (0.0, 100.0),
    "negative": (-1.0, 100.0),
    "crossed": (101.0, 100.0),
    "absurd": (1e300, 1e300),
    "stale": (100.0, 100.1),
}


def spoil(world: Any, kind: str) -> None:
    """What the stream left of bitcoin cannot be traded at."""
    quote = UNUSABLE[kind]
    if quote is None:
        world.redis.delete("orderbook:binance:BITCOINUSDT")
    else:
        at = START + HOUR if kind == "stale" else None
        world.quote("bitcoin", *quote, at=at)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_quote_holds_up_no_other_instrument(
    world: Any, account: Account, kind: str
) -> None:
    hold_bitcoin(world, account)
    world.signal("ethereum", 1, START + HOUR)
    turn_to(world, account, 0)
    spoil(world, kind)
    world.quote("ethereum", 50.0, 50.1)
    advance_account(account_id=account.pk)
    account.refresh_from_db()
    assert account.processed_bar == START + HOUR
    assert list(Fill.objects.values_list("order__symbol", flat=True)) == [
        "ETHEREUMUSDT",
        "BITCOINUSDT",
    ]
    assert PendingSignal.objects.get().instrument.coin_id == "bitcoin"
    with pytest.raises(NoQuoteError):
        close_position(account_id=account.pk, coin_id="bitcoin")
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)
    assert Trade.objects.get().exit_reason == "signal"


def test_a_price_beyond_the_books_waits_for_another(world: Any, account: Account) -> None:
    hold_bitcoin(world, account)
    world.signal("ethereum", 1, START + HOUR)
    turn_to(world, account, 0)
    world.quote("bitcoin", 1e11, 1e11)
    world.quote("ethereum", 50.0, 50.1)
    advance_account(account_id=account.pk)
    assert Fill.objects.count() == 2
    assert PendingSignal.objects.get().instrument.coin_id == "bitcoin"
    with pytest.raises(NoQuoteError):
        close_position(account_id=account.pk, coin_id="bitcoin")
    world.quote("bitcoin", 100.0, 100.1)
    advance_account(account_id=account.pk)
    assert Position.objects.get(instrument__coin_id="bitcoin").quantity_steps == 0
    assert Account.objects.get().cash < Decimal(10_000)


def test_what_is_worth_less_than_a_tick_is_marked_at_one(world: Any, account: Account) -> None:
    """A coin that falls to nothing ends below half of the tick it was bought on."""
    hold_bitcoin(world, account)
    prices = dict.fromkeys(("open", "high", "low", "close"), 0.04)
    Ohlcv.objects.filter(instrument__coin_id="bitcoin").update(**prices)
    portfolio = account_portfolio(account=Account.objects.get(), bar=None)
    held = Position.objects.get().quantity_steps
    assert portfolio.gross_exposure == pytest.approx(held * 0.001 * 0.1)
    assert portfolio.open_risk == 0.0  # its stop has long been passed
