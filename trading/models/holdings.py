"""What accounts hold, what it paid and cost to hold it, and the round trips that are over."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.db.models import Q

from trading.fields import MoneyField
from trading.models.accounts import Account
from trading.models.orders import Fill


class Position(models.Model):
    """The holding of one account in one instrument; the row stays when it is flat.

    `total_cost` is the signed cost of the open quantity, so no average price is ever rounded.
    `stop_loss` and `take_profit` repeat what the working protective orders say. The fields
    `round_*` add up the present round trip, from flat to flat.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="positions")
    instrument = models.ForeignKey("collectors.Instrument", on_delete=models.PROTECT)
    quantity_steps = models.BigIntegerField(default=0, help_text="signed")
    total_cost = MoneyField(default=Decimal(0))
    realised_pnl = MoneyField(default=Decimal(0))
    tick_size = models.CharField(max_length=24)
    quantity_step = models.CharField(max_length=24)
    stop_loss = models.FloatField(null=True, blank=True)
    take_profit = models.FloatField(null=True, blank=True)
    entry_signal = models.ForeignKey(
        "signals.Signal", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    entered_at = models.DateTimeField(null=True, blank=True, help_text="market time")
    round_entry_steps = models.BigIntegerField(default=0)
    round_entry_value = MoneyField(default=Decimal(0), help_text="notional, never negative")
    round_exit_steps = models.BigIntegerField(default=0)
    round_exit_value = MoneyField(default=Decimal(0), help_text="notional, never negative")
    round_pnl = MoneyField(default=Decimal(0), help_text="realised, before fees and funding")
    round_fees = MoneyField(default=Decimal(0))
    round_slippage = MoneyField(default=Decimal(0))
    round_funding = MoneyField(default=Decimal(0), help_text="received; negative: paid")
    off_market_since = models.DateTimeField(
        null=True, blank=True, help_text="market time from which it was seen not to be traded"
    )
    stopped_direction = models.SmallIntegerField(
        default=0, help_text="direction that may not be entered again until the signal changes"
    )

    class Meta:
        ordering = ["account", "instrument"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "instrument"], name="position_unique"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["account"], condition=~Q(quantity_steps=0), name="position_open"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.instrument_id}: {self.quantity_steps}"

    @property
    def direction(self) -> int:
        """1 for long, -1 for short, 0 for flat."""
        return (self.quantity_steps > 0) - (self.quantity_steps < 0)


class MarkSource(models.TextChoices):
    """Where the price of a funding payment is from."""

    SETTLEMENT = "settlement", "settlement: the exchange said it"
    CANDLE = "candle", "candle: the last close by the funding time"
    COST = "cost", "cost: the average price paid, as no candle is known"


class FundingPayment(models.Model):
    """What one settlement of an exchange brought or cost an account; once per settlement.

    Never changed: when the rate, the price or the quantity turns out to have been another, the
    difference is a payment of the next `revision`. What was settled is the sum of all amounts, and
    the newest revision says what it was reckoned with.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="funding")
    position = models.ForeignKey(Position, on_delete=models.PROTECT, related_name="funding")
    settlement = models.ForeignKey(
        "collectors.FundingRate", on_delete=models.PROTECT, related_name="payments"
    )
    revision = models.PositiveSmallIntegerField(default=0, help_text="above 0: a correction")
    quantity_steps = models.BigIntegerField(help_text="signed, as held at the funding time")
    mark_price = models.FloatField(help_text="that it was reckoned with")
    mark_source = models.CharField(
        max_length=10, choices=MarkSource.choices, default=MarkSource.SETTLEMENT
    )
    rate = models.FloatField(help_text="that it was reckoned with")
    amount = MoneyField(help_text="received; negative: paid")
    at = models.DateTimeField(help_text="the exchange's funding time (market time)")
    recorded_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "settlement", "revision"], name="funding_payment_once"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["at"], name="funding_payment_by_time"),
            models.Index(fields=["account", "-id"], name="funding_payment_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.at:%Y-%m-%d %H:%M} {self.amount}"


class Trade(models.Model):
    """A closed round trip, from flat to flat; a flip through zero ends one and begins another.

    Prices are averages over its fills, for people: the books never compute with them.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="trades")
    instrument = models.ForeignKey("collectors.Instrument", on_delete=models.PROTECT)
    strategy = models.CharField(max_length=64)
    direction = models.SmallIntegerField()
    quantity = models.CharField(max_length=32, help_text="decimal string, base units")
    entry_price = models.FloatField()
    exit_price = models.FloatField()
    pnl = MoneyField(help_text="realised, before fees and funding")
    fees = MoneyField()
    slippage = MoneyField(default=Decimal(0), help_text="lost to slippage; part of pnl already")
    funding = MoneyField(default=Decimal(0), help_text="received; negative: paid")
    entered_at = models.DateTimeField(help_text="market time")
    exited_at = models.DateTimeField(help_text="market time")
    exit_reason = models.CharField(max_length=16)
    exit_fill = models.OneToOneField(Fill, on_delete=models.PROTECT, related_name="trade")

    class Meta:
        ordering = ["-exited_at"]
        indexes: ClassVar = [
            models.Index(fields=["account", "strategy", "id"], name="trade_of_strategy_from"),
            models.Index(fields=["exited_at"], name="trade_by_exit"),
        ]

    def __str__(self) -> str:
        return f"{self.instrument_id} {self.direction:+d} {self.pnl}"

    @property
    def holding_hours(self) -> float:
        """How long it was held, in market time."""
        return (self.exited_at - self.entered_at).total_seconds() / 3600.0

    @property
    def net(self) -> Decimal:
        """What it brought after fees and funding."""
        net: Decimal = self.pnl - self.fees + self.funding
        return net
