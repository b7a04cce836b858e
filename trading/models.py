"""The paper account's books: accounts, orders, fills, ledger, positions, trades, backtests.

Prices are integer ticks and quantities integer steps of the listing; each order copies tick and
step, so old rows keep their meaning when a venue changes its grid.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from signals.catalog import strategy_names
from signals.registry import CONSENSUS
from trading.fields import MoneyField


def default_subscriptions() -> list[str]:
    """A new account follows the consensus alone."""
    return [CONSENSUS]


def validate_subscriptions(names: Any) -> None:
    """Refuse what is not a list of strategies that exist, or the consensus of them."""
    if not isinstance(names, list):
        raise ValidationError("not a list of strategies")
    known = [CONSENSUS, *strategy_names()]
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        raise ValidationError(f"unknown strategy {', '.join(unknown)}; known: {', '.join(known)}")


class Side(models.TextChoices):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"


class Account(models.Model):
    """A paper account. Cash always equals the sum of its ledger entries."""

    name = models.CharField(max_length=64, unique=True)
    profile = models.OneToOneField(
        "risk.RiskProfile", on_delete=models.PROTECT, related_name="account"
    )
    exchange = models.CharField(max_length=16, default="binance", help_text="where it trades")
    timeframe = models.CharField(max_length=4, default="1h", help_text="whose bar runs it follows")
    subscriptions = models.JSONField(
        default=default_subscriptions,
        blank=True,
        validators=[validate_subscriptions],
        help_text="the strategies that it follows; with none it only keeps what it holds",
    )
    initial_capital = MoneyField()
    cash = MoneyField()
    high_water_mark = MoneyField()
    day_start_equity = MoneyField()
    day = models.DateField(help_text="the UTC market day of day_start_equity")
    is_active = models.BooleanField(default=True)
    processed_bar = models.DateTimeField(
        null=True, blank=True, help_text="open time of the last bar run that was executed"
    )
    created_at = models.DateTimeField(help_text="market time")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name


class PendingSignal(models.Model):
    """A signal that met no usable quote yet: at most one per account and instrument.

    Written when the bar run of the signal is executed without a quote, replaced by the next signal
    of the instrument, and deleted in the transaction that fills, refuses or overtakes it.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="pending_signals")
    instrument = models.ForeignKey("collectors.Instrument", on_delete=models.PROTECT)
    signal = models.ForeignKey("signals.Signal", on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["account", "instrument"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "instrument"], name="pending_signal_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.instrument_id}: signal {self.signal_id}"


class OrderStatus(models.TextChoices):
    """Where an order stands."""

    FILLED = "filled"


class OrderLeg(models.TextChoices):
    """What an order does to the position. A flip is a close and then an open."""

    OPEN = "open"
    CLOSE = "close"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"


class Order(models.Model):
    """One order. At most one per account, signal and leg; at most one exit per bar."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="orders")
    instrument = models.ForeignKey("collectors.Instrument", on_delete=models.PROTECT)
    exchange = models.CharField(max_length=16)
    symbol = models.CharField(max_length=32)
    signal = models.ForeignKey(
        "signals.Signal", null=True, blank=True, on_delete=models.PROTECT, related_name="orders"
    )
    decision = models.ForeignKey(
        "risk.RiskDecision", null=True, blank=True, on_delete=models.PROTECT, related_name="orders"
    )
    leg = models.CharField(max_length=12, choices=OrderLeg.choices)
    trigger_bar = models.DateTimeField(
        null=True, blank=True, help_text="open time of the candle that hit a stop or target"
    )
    side = models.CharField(max_length=4, choices=Side.choices)
    quantity_steps = models.BigIntegerField()
    tick_size = models.CharField(max_length=24)
    quantity_step = models.CharField(max_length=24)
    status = models.CharField(max_length=8, choices=OrderStatus.choices)
    at = models.DateTimeField(help_text="market time")

    class Meta:
        ordering = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "signal", "leg"],
                condition=Q(signal__isnull=False),
                name="order_once_per_signal",
            ),
            models.UniqueConstraint(
                fields=["account", "instrument", "trigger_bar"],
                condition=Q(trigger_bar__isnull=False),
                name="order_once_per_trigger",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.symbol} {self.leg} ({self.status})"


class Fill(models.Model):
    """One execution with the quote it met. Never changed once written."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="fills")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="fills")
    price_ticks = models.BigIntegerField()
    quantity_steps = models.BigIntegerField()
    fee = MoneyField()
    realised_pnl = MoneyField()
    slippage_bps = models.FloatField()
    quote = models.JSONField(help_text="the recorded inputs of the simulator")
    bar_open_time = models.DateTimeField(help_text="the bar of the signal or of the trigger")
    at = models.DateTimeField(help_text="market time")
    recorded_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.order.side} {self.quantity_steps} x {self.price_ticks}"


class EntryKind(models.TextChoices):
    """Why cash moved."""

    DEPOSIT = "deposit"
    FEE = "fee"
    REALISED_PNL = "realised_pnl"


class LedgerEntry(models.Model):
    """One movement of cash, append only."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="entries")
    fill = models.ForeignKey(Fill, null=True, on_delete=models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=12, choices=EntryKind.choices)
    amount = MoneyField()
    at = models.DateTimeField(help_text="market time")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "ledger entries"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["fill", "kind"], condition=Q(fill__isnull=False), name="entry_once_per_fill"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"


class Position(models.Model):
    """The holding of one account in one instrument; the row stays when it is flat.

    `total_cost` is the signed cost of the open quantity, so no average price is ever rounded.
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
    entry_fees = MoneyField(default=Decimal(0))
    entered_at = models.DateTimeField(null=True, blank=True, help_text="market time")
    exits_from = models.DateTimeField(
        null=True,
        blank=True,
        help_text="open time of the first candle that may decide its stop and target",
    )
    stopped_direction = models.SmallIntegerField(
        default=0, help_text="direction that may not be entered again until the signal changes"
    )

    class Meta:
        ordering = ["account", "instrument"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "instrument"], name="position_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.instrument_id}: {self.quantity_steps}"


class Trade(models.Model):
    """A closed round trip."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="trades")
    instrument = models.ForeignKey("collectors.Instrument", on_delete=models.PROTECT)
    strategy = models.CharField(max_length=64)
    direction = models.SmallIntegerField()
    quantity = models.CharField(max_length=32, help_text="decimal string, base units")
    entry_price = models.FloatField()
    exit_price = models.FloatField()
    pnl = MoneyField(help_text="realised, before fees")
    fees = MoneyField()
    entered_at = models.DateTimeField(help_text="market time")
    exited_at = models.DateTimeField(help_text="market time")
    exit_reason = models.CharField(max_length=16)
    exit_fill = models.OneToOneField(Fill, on_delete=models.PROTECT, related_name="trade")

    class Meta:
        ordering = ["-exited_at"]

    def __str__(self) -> str:
        return f"{self.instrument_id} {self.direction:+d} {self.pnl}"


class EquityPoint(models.Model):
    """The account's worth at one market moment."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="equity_points")
    at = models.DateTimeField(help_text="market time")
    equity = MoneyField()
    cash = MoneyField()
    gross_exposure = MoneyField()

    class Meta:
        ordering = ["-at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "at"], name="equity_point_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.at:%Y-%m-%d %H:%M} {self.equity}"


class BacktestState(models.TextChoices):
    """Where a backtest stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Backtest(models.Model):
    """A backtest as asked for and, once done, its result. Long work under a lease."""

    strategy_name = models.CharField(max_length=64)
    instruments = models.JSONField()
    timeframe = models.CharField(max_length=4, default="1h")
    start_date = models.DateTimeField()
    end_date = models.DateTimeField()
    parameters = models.JSONField(default=dict, blank=True)
    initial_capital = MoneyField()
    state = models.CharField(
        max_length=9, choices=BacktestState.choices, default=BacktestState.QUEUED
    )
    progress_pct = models.FloatField(default=0.0)
    error = models.CharField(max_length=300, blank=True)
    final_value = MoneyField(null=True)
    total_return = models.FloatField(null=True)
    sharpe_ratio = models.FloatField(null=True)
    max_drawdown = models.FloatField(null=True)
    trade_count = models.PositiveIntegerField(null=True)
    metrics = models.JSONField(default=dict)
    revisions = models.JSONField(default=dict, help_text="series revisions that it read")
    created_at = models.DateTimeField(help_text="wall time")
    finished_at = models.DateTimeField(null=True, help_text="wall time")
    owner = models.CharField(max_length=64, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.strategy_name} {self.start_date:%Y-%m-%d} - {self.end_date:%Y-%m-%d}"
