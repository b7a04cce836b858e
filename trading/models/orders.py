"""Orders and their fills."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from trading.fields import MoneyField
from trading.models.accounts import Account


class Side(models.TextChoices):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"


class OrderKind(models.TextChoices):
    """What makes an order trade."""

    MARKET = "market", "market: at what there is"
    LIMIT = "limit", "limit: at its price or better"
    STOP = "stop", "stop: a market order once its trigger is touched"
    STOP_LIMIT = "stop_limit", "stop-limit: a limit order once its trigger is touched"
    TRAILING_STOP = "trailing_stop", "trailing stop: a stop that follows the market"


class OrderStatus(models.TextChoices):
    """Where an order stands; `filled_steps` says how much of it is done."""

    WORKING = "working", "working: waits for the market"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class OrderLeg(models.TextChoices):
    """What an order does to the position. A flip by a signal is a close and then an open."""

    OPEN = "open"
    CLOSE = "close"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    LIQUIDATION = "liquidation"


# What may enlarge exposure; everything else only shrinks it.
ENTRY_LEGS = (OrderLeg.OPEN,)
PROTECTIVE_LEGS = (OrderLeg.STOP_LOSS, OrderLeg.TAKE_PROFIT)


class TimeInForce(models.TextChoices):
    """How long an order waits for what it did not get."""

    GTC = "gtc", "until it is filled or cancelled"
    GTD = "gtd", "until its expiry"
    IOC = "ioc", "not at all: what is not filled at once is cancelled"


class Liquidity(models.TextChoices):
    """Whose price a fill was at."""

    TAKER = "taker"
    MAKER = "maker"


class Order(models.Model):
    """One order. At most one per account, signal and leg, and one per account and key.

    A market order is filled in the transaction that writes it, as far as the market goes; others
    work until the market comes to them. The working orders of one `oco` key cancel each other:
    what one of them fills the others must not.
    """

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
    key = models.CharField(
        max_length=96, blank=True, help_text="names the wish: the same key never orders twice"
    )
    kind = models.CharField(max_length=13, choices=OrderKind.choices, default=OrderKind.MARKET)
    leg = models.CharField(max_length=12, choices=OrderLeg.choices)
    side = models.CharField(max_length=4, choices=Side.choices)
    quantity_steps = models.BigIntegerField()
    filled_steps = models.BigIntegerField(default=0)
    tick_size = models.CharField(max_length=24)
    quantity_step = models.CharField(max_length=24)
    limit_ticks = models.BigIntegerField(null=True, blank=True)
    trigger_ticks = models.BigIntegerField(null=True, blank=True)
    trail_ticks = models.BigIntegerField(
        null=True, blank=True, help_text="how far a trailing stop stays behind its watermark"
    )
    watermark_ticks = models.BigIntegerField(
        null=True, blank=True, help_text="the best price since a trailing stop works"
    )
    is_triggered = models.BooleanField(default=False)
    stop_loss = models.FloatField(
        null=True, blank=True, help_text="of the position that an entry opens"
    )
    take_profit = models.FloatField(
        null=True, blank=True, help_text="of the position that an entry opens"
    )
    time_in_force = models.CharField(
        max_length=3, choices=TimeInForce.choices, default=TimeInForce.GTC
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="market time")
    oco = models.CharField(max_length=48, blank=True, help_text="one cancels the other")
    status = models.CharField(
        max_length=9, choices=OrderStatus.choices, default=OrderStatus.WORKING
    )
    reason = models.CharField(
        max_length=200, blank=True, help_text="why it was placed or did not fill, in words"
    )
    placed_by = models.CharField(max_length=150, blank=True, help_text="empty: the machine")
    judged_from = models.DateTimeField(
        null=True,
        blank=True,
        help_text="open time of the first candle that may fill or trigger it",
    )
    met_at = models.DateTimeField(
        null=True, blank=True, help_text="market time of the newest input that changed it"
    )
    at = models.DateTimeField(help_text="market time")
    ended_at = models.DateTimeField(null=True, blank=True, help_text="market time")

    class Meta:
        ordering = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "signal", "leg"],
                condition=Q(signal__isnull=False),
                name="order_once_per_signal",
            ),
            models.UniqueConstraint(
                fields=["account", "key"], condition=~Q(key=""), name="order_once_per_key"
            ),
            models.CheckConstraint(
                name="order_quantity_possible",
                condition=Q(quantity_steps__gt=0)
                & Q(filled_steps__gte=0)
                & Q(filled_steps__lte=F("quantity_steps")),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["account", "instrument"],
                condition=Q(status="working"),
                name="order_working",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.symbol} {self.leg} ({self.status})"

    @property
    def remaining_steps(self) -> int:
        """What is not filled yet."""
        return self.quantity_steps - self.filled_steps


class Fill(models.Model):
    """One execution with the quote or candle it met. Never changed once written.

    `trigger` names what the order met: an order meets the same thing once.
    """

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="fills")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="fills")
    trigger = models.CharField(max_length=96)
    price_ticks = models.BigIntegerField()
    quantity_steps = models.BigIntegerField()
    liquidity = models.CharField(max_length=5, choices=Liquidity.choices, default=Liquidity.TAKER)
    fee = MoneyField()
    realised_pnl = MoneyField()
    slippage = MoneyField(help_text="lost against the price that was there, in quote units")
    slippage_bps = models.FloatField()
    quote = models.JSONField(help_text="the recorded inputs of the simulator")
    bar_open_time = models.DateTimeField(help_text="the bar of the signal or of the trigger")
    at = models.DateTimeField(help_text="market time")
    recorded_at = models.DateTimeField(help_text="wall time")

    class Meta:
        ordering = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["order", "trigger"], name="fill_once_per_trigger"),
        ]
        indexes: ClassVar = [models.Index(fields=["account", "at"], name="fill_by_time")]

    def __str__(self) -> str:
        return f"{self.order.side} {self.quantity_steps} x {self.price_ticks}"
