"""Funding: every settlement of what was held then, once, and every later word as a difference."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Sum

from collectors import events
from collectors.models import FundingRate, Instrument, Ohlcv, RetentionPolicy
from collectors.services.funding_rows import store_history, store_seen_settlements
from collectors.settlements import SeenSettlement
from collectors.venues import Settlement
from mts_project.retention import prune_rows
from tests.trading.books import book
from trading.models import (
    Account,
    Book,
    FundingPayment,
    LedgerEntry,
    LedgerTransaction,
    MarkSource,
    Position,
    Trade,
)
from trading.services import pay_funding, review_funding

EIGHT = datetime.fromisoformat("2021-05-13T08:00:00+00:00")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def bitcoin(world: Any) -> Instrument:
    world.at(EIGHT + 10 * MINUTE)
    return world.listed("bitcoin")  # type: ignore[no-any-return]


def settle(
    instrument: Instrument, at: datetime = EIGHT, *, mark: float | None = 100.0
) -> FundingRate:
    """What the stream has seen: longs pay a basis point."""
    seen = SeenSettlement(
        exchange="binance",
        symbol="BITCOINUSDT",
        funding_time=at,
        rate=0.0001,
        mark_price=mark,  # type: ignore[arg-type]
        interval_hours=8.0,
    )
    store_seen_settlements([(instrument, seen)])
    return FundingRate.objects.get(instrument=instrument, funding_time=at)


def history(instrument: Instrument, at: datetime, rate: float, mark: float | None) -> None:
    """What the exchange's history says later."""
    found = [
        Settlement(
            exchange="binance", symbol="BITCOINUSDT", funding_time=at, rate=rate, mark_price=mark
        )
    ]
    store_history(instrument=instrument, exchange="binance", since=EIGHT - HOUR, found=found)


def cash(account: Account) -> Decimal:
    account.refresh_from_db()
    booked = LedgerEntry.objects.filter(account=account, book=Book.CASH)
    assert account.cash == booked.aggregate(total=Sum("amount"))["total"]
    return account.cash


def amounts(account: Account) -> list[str]:
    rows = FundingPayment.objects.filter(account=account).order_by("id")
    return [f"{row.amount:f}" for row in rows]


def test_longs_pay_shorts_once_whatever_is_repeated(account: Account, bitcoin: Instrument) -> None:
    book(account, bitcoin, 500, 1000, EIGHT - HOUR)
    before = cash(account)
    settle(bitcoin)
    assert pay_funding() == 1
    # 0.5 x 100 x 0.0001, by a long.
    assert amounts(account) == ["-0.00500000"]
    assert cash(account) == before - Decimal("0.005")
    assert Position.objects.get().round_funding == Decimal("-0.005")
    payment = FundingPayment.objects.get()
    entries = LedgerTransaction.objects.get(key=f"funding:{payment.pk}").entries
    assert {row.book: row.amount for row in entries.all()} == {
        "cash": Decimal("-0.005"),
        "funding": Decimal("0.005"),
    }
    assert pay_funding() == pay_funding(recent=True) == review_funding(account_id=account.pk) == 0
    assert cash(account) == before - Decimal("0.005")


def test_what_was_held_at_the_funding_time_counts(account: Account, bitcoin: Instrument) -> None:
    book(account, bitcoin, -500, 1000, EIGHT - 2 * HOUR)
    book(account, bitcoin, -100, 1000, EIGHT - HOUR)
    book(account, bitcoin, 200, 1000, EIGHT)  # at the very moment
    settle(bitcoin)
    book(account, bitcoin, -1000, 1000, EIGHT + MINUTE)
    pay_funding()
    payment = FundingPayment.objects.get()
    assert (payment.quantity_steps, payment.amount) == (-400, Decimal("0.004"))


def test_who_left_before_or_came_after_has_nothing_to_do_with_it(
    account: Account, bitcoin: Instrument
) -> None:
    book(account, bitcoin, 500, 1000, EIGHT - HOUR)
    book(account, bitcoin, -500, 1000, EIGHT)
    book(account, bitcoin, 500, 1000, EIGHT + MINUTE)
    settle(bitcoin)
    other = settle(bitcoin, EIGHT - 2 * HOUR)
    FundingRate.objects.filter(pk=other.pk).update(exchange="bybit", funding_time=EIGHT - MINUTE)
    assert pay_funding() == 0


def test_it_belongs_to_the_round_trip_that_held_even_if_that_is_over(
    account: Account, bitcoin: Instrument
) -> None:
    """One that ended by a flip, before the settlement was known."""
    book(account, bitcoin, 500, 1000, EIGHT - HOUR)
    book(account, bitcoin, -1500, 1000, EIGHT + MINUTE)
    settle(bitcoin)
    pay_funding()
    assert Trade.objects.get().funding == Decimal("-0.005")
    assert Position.objects.get().round_funding == 0
    # The next settlement is that of the other side.
    settle(bitcoin, EIGHT + 3 * MINUTE)
    pay_funding()
    assert Position.objects.get().round_funding == Decimal("0.01")
    assert Trade.objects.get().funding == Decimal("-0.005")


def test_what_the_history_corrects_is_booked_as_a_difference(
    account: Account, bitcoin: Instrument
) -> None:
    book(account, bitcoin, 500, 1000, EIGHT - HOUR)
    settle(bitcoin)
    pay_funding()
    history(bitcoin, EIGHT, 0.0003, 200.0)
    assert pay_funding(recent=True) == 1
    assert amounts(account) == ["-0.00500000", "-0.02500000"]
    assert [row.revision for row in FundingPayment.objects.order_by("id")] == [0, 1]
    assert Position.objects.get().round_funding == Decimal("-0.03")
    assert LedgerTransaction.objects.filter(kind="funding").count() == 2
    assert pay_funding() == 0
    cash(account)


def test_what_the_history_does_not_know_is_paid_back(account: Account, bitcoin: Instrument) -> None:
    """The row that a payment refers to stays, and says that nothing was charged."""
    book(account, bitcoin, 500, 1000, EIGHT - HOUR)
    settle(bitcoin)
    paid = settle(bitcoin, EIGHT - 5 * MINUTE)
    pay_funding()
    history(bitcoin, EIGHT, 0.0001, 100.0)
    paid.refresh_from_db()
    assert (paid.rate, paid.is_confirmed) == (0.0, True)
    pay_funding()
    assert amounts(account) == ["-0.00500000", "-0.00500000", "0.00500000"]


def test_a_fill_that_was_booked_late_changes_what_was_held(
    account: Account, bitcoin: Instrument
) -> None:
    """A bar's stop is known after the bar, and is of a time before the settlement."""
    book(account, bitcoin, 500, 1000, EIGHT - HOUR)
    settle(bitcoin)
    pay_funding()
    book(account, bitcoin, -500, 1000, EIGHT)
    assert review_funding(account_id=account.pk) == 1
    assert amounts(account) == ["-0.00500000", "0.00500000"]
    assert Trade.objects.get().funding == 0


def test_books_come_past_the_funding_time_first(
    world: Any, account: Account, bitcoin: Instrument
) -> None:
    """The bar that ends there may have closed the position: it is worked off before, or has had
    its time."""
    book(account, bitcoin, 500, 1000, EIGHT - HOUR)
    settle(bitcoin)
    world.at(EIGHT + timedelta(seconds=2))
    assert pay_funding() == 0
    Account.objects.update(processed_bar=EIGHT - HOUR)
    assert pay_funding() == 1


def test_without_a_mark_price_the_last_close_counts_else_the_cost(
    world: Any, account: Account, bitcoin: Instrument
) -> None:
    Ohlcv.objects.all().delete()
    book(account, bitcoin, 500, 1000, EIGHT - 3 * HOUR)
    settle(bitcoin, EIGHT - 2 * HOUR, mark=None)
    pay_funding()
    world.candle("bitcoin", EIGHT - HOUR, (99.0, 121.0, 98.0, 120.0))
    world.candle("bitcoin", EIGHT, (120.0, 151.0, 98.0, 150.0))
    settle(bitcoin, mark=None)
    pay_funding()
    rows = FundingPayment.objects.order_by("id").values_list("mark_source", "mark_price")
    assert list(rows) == [(MarkSource.COST, 100.0), (MarkSource.CANDLE, 120.0)]
    assert pay_funding() == 0


def test_settlements_are_told_of_after_commit(
    bitcoin: Instrument, django_capture_on_commit_callbacks: Any
) -> None:
    heard: list[list[int]] = []

    def hear(instrument_ids: list[int], **_: object) -> None:
        heard.append(instrument_ids)

    events.funding_stored.connect(hear)
    try:
        for work in (
            lambda: settle(bitcoin),
            lambda: settle(bitcoin),  # known
            lambda: history(bitcoin, EIGHT, 0.0003, 100.0),
            lambda: history(bitcoin, EIGHT, 0.0003, 100.0),  # known
        ):
            with django_capture_on_commit_callbacks(execute=True):
                work()
    finally:
        events.funding_stored.disconnect(hear)
    assert heard == [[bitcoin.pk], [bitcoin.pk]]


def test_a_settlement_that_was_paid_is_never_forgotten(
    account: Account, bitcoin: Instrument, settings: Any, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    book(account, bitcoin, 500, 1000, EIGHT - HOUR)
    paid, other = settle(bitcoin), settle(bitcoin, EIGHT - 2 * HOUR)
    pay_funding()
    RetentionPolicy.objects.update_or_create(
        kind="funding", defaults={"keep_days": 1, "is_archived": False}
    )
    assert prune_rows(now=EIGHT + timedelta(days=10))["funding"] == 1
    assert list(FundingRate.objects.all()) == [paid]
    assert other.pk != paid.pk
