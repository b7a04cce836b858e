"""Orders that work until the market comes to them, and what their fills say of it."""

from decimal import Decimal

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Q

import trading.fields


def carry_over(apps, schema_editor):
    """What was filled at once is filled; what is held gets the orders that protect it."""
    Order = apps.get_model("trading", "Order")
    Fill = apps.get_model("trading", "Fill")
    Position = apps.get_model("trading", "Position")
    Listing = apps.get_model("collectors", "Listing")
    Order.objects.update(filled_steps=F("quantity_steps"), ended_at=F("at"))
    Fill.objects.update(trigger="quote")
    for position in Position.objects.exclude(quantity_steps=0).select_related("account"):
        position.round_entry_steps = abs(position.quantity_steps)
        position.round_entry_value = abs(position.total_cost)
        tick = Decimal(position.tick_size)
        exchange = position.account.exchange
        newest = Order.objects.filter(
            account_id=position.account_id, instrument_id=position.instrument_id
        )
        held = newest.order_by("-id").first()
        listing = Listing.objects.filter(
            instrument_id=position.instrument_id, exchange=exchange
        ).first()
        symbol = held.symbol if held else listing.symbol if listing else ""
        for leg, kind, column in (
            ("stop_loss", "stop", "trigger_ticks"),
            ("take_profit", "limit", "limit_ticks"),
        ):
            price = getattr(position, leg)
            if price is None:
                continue
            ticks = max(1, int(round(Decimal(repr(price)) / tick)))
            setattr(position, leg, float(ticks * tick))
            Order.objects.create(
                account_id=position.account_id,
                instrument_id=position.instrument_id,
                exchange=exchange,
                symbol=symbol,
                key=f"{leg}:carried:{position.pk}",
                kind=kind,
                leg=leg,
                side="sell" if position.quantity_steps > 0 else "buy",
                quantity_steps=abs(position.quantity_steps),
                tick_size=position.tick_size,
                quantity_step=position.quantity_step,
                oco=f"position:{position.pk}",
                status="working",
                judged_from=position.exits_from,
                at=position.entered_at or position.account.created_at,
                is_triggered=leg == "take_profit",
                **{column: ticks},
            )
        position.save()


class Migration(migrations.Migration):
    dependencies = [
        ("trading", "0001_initial"),
        ("collectors", "0001_initial"),
        ("risk", "0001_initial"),
        ("signals", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            "account",
            "latency_ms",
            models.PositiveIntegerField(
                default=100,
                validators=[django.core.validators.MaxValueValidator(60_000)],
                help_text="market milliseconds from an order to the first quote that it can meet",
            ),
        ),
        migrations.AddField(
            "account",
            "is_pyramiding",
            models.BooleanField(
                default=False,
                help_text="a signal in the direction that is held adds to the position",
            ),
        ),
        migrations.RemoveConstraint("order", "order_once_per_trigger"),
        migrations.AddField(
            "order",
            "key",
            models.CharField(
                max_length=96,
                blank=True,
                default="",
                help_text="names the wish: the same key never orders twice",
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "order",
            "kind",
            models.CharField(
                max_length=13,
                choices=[
                    ("market", "market: at what there is"),
                    ("limit", "limit: at its price or better"),
                    ("stop", "stop: a market order once its trigger is touched"),
                    ("stop_limit", "stop-limit: a limit order once its trigger is touched"),
                    ("trailing_stop", "trailing stop: a stop that follows the market"),
                ],
                default="market",
            ),
        ),
        migrations.AddField("order", "filled_steps", models.BigIntegerField(default=0)),
        migrations.AddField(
            "order", "limit_ticks", models.BigIntegerField(null=True, blank=True)
        ),
        migrations.AddField(
            "order", "trigger_ticks", models.BigIntegerField(null=True, blank=True)
        ),
        migrations.AddField(
            "order",
            "trail_ticks",
            models.BigIntegerField(
                null=True,
                blank=True,
                help_text="how far a trailing stop stays behind its watermark",
            ),
        ),
        migrations.AddField(
            "order",
            "watermark_ticks",
            models.BigIntegerField(
                null=True, blank=True, help_text="the best price since a trailing stop works"
            ),
        ),
        migrations.AddField("order", "is_triggered", models.BooleanField(default=False)),
        migrations.AddField(
            "order",
            "stop_loss",
            models.FloatField(
                null=True, blank=True, help_text="of the position that an entry opens"
            ),
        ),
        migrations.AddField(
            "order",
            "take_profit",
            models.FloatField(
                null=True, blank=True, help_text="of the position that an entry opens"
            ),
        ),
        migrations.AddField(
            "order",
            "time_in_force",
            models.CharField(
                max_length=3,
                choices=[
                    ("gtc", "until it is filled or cancelled"),
                    ("gtd", "until its expiry"),
                    ("ioc", "not at all: what is not filled at once is cancelled"),
                ],
                default="gtc",
            ),
        ),
        migrations.AddField(
            "order",
            "expires_at",
            models.DateTimeField(null=True, blank=True, help_text="market time"),
        ),
        migrations.AddField(
            "order",
            "oco",
            models.CharField(
                max_length=48, blank=True, default="", help_text="one cancels the other"
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "order",
            "reason",
            models.CharField(
                max_length=200,
                blank=True,
                default="",
                help_text="why it was placed or did not fill, in words",
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "order",
            "placed_by",
            models.CharField(
                max_length=150, blank=True, default="", help_text="empty: the machine"
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "order",
            "judged_from",
            models.DateTimeField(
                null=True,
                blank=True,
                help_text="open time of the first candle that may fill or trigger it",
            ),
        ),
        migrations.AddField(
            "order",
            "ended_at",
            models.DateTimeField(null=True, blank=True, help_text="market time"),
        ),
        migrations.AlterField(
            "order",
            "status",
            models.CharField(
                max_length=9,
                choices=[
                    ("working", "working: waits for the market"),
                    ("filled", "Filled"),
                    ("cancelled", "Cancelled"),
                    ("expired", "Expired"),
                ],
                default="working",
            ),
        ),
        migrations.AlterField(
            "order",
            "leg",
            models.CharField(
                max_length=12,
                choices=[
                    ("open", "Open"),
                    ("close", "Close"),
                    ("stop_loss", "Stop Loss"),
                    ("take_profit", "Take Profit"),
                    ("liquidation", "Liquidation"),
                ],
            ),
        ),
        migrations.AddField(
            "fill",
            "trigger",
            models.CharField(max_length=96, default=""),
            preserve_default=False,
        ),
        migrations.AddField(
            "fill",
            "liquidity",
            models.CharField(
                max_length=5,
                choices=[("taker", "Taker"), ("maker", "Maker")],
                default="taker",
            ),
        ),
        migrations.AddField(
            "fill",
            "slippage",
            trading.fields.MoneyField(
                default=Decimal(0),
                help_text="lost against the price that was there, in quote units",
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "position", "round_entry_steps", models.BigIntegerField(default=0)
        ),
        migrations.AddField(
            "position",
            "round_entry_value",
            trading.fields.MoneyField(
                default=Decimal(0), help_text="notional, never negative"
            ),
        ),
        migrations.AddField("position", "round_exit_steps", models.BigIntegerField(default=0)),
        migrations.AddField(
            "position",
            "round_exit_value",
            trading.fields.MoneyField(
                default=Decimal(0), help_text="notional, never negative"
            ),
        ),
        migrations.AddField(
            "position",
            "round_pnl",
            trading.fields.MoneyField(
                default=Decimal(0), help_text="realised, before fees and funding"
            ),
        ),
        migrations.RenameField("position", "entry_fees", "round_fees"),
        migrations.AddField(
            "position", "round_slippage", trading.fields.MoneyField(default=Decimal(0))
        ),
        migrations.AddField(
            "position",
            "round_funding",
            trading.fields.MoneyField(
                default=Decimal(0), help_text="received; negative: paid"
            ),
        ),
        migrations.AddField(
            "trade",
            "slippage",
            trading.fields.MoneyField(
                default=Decimal(0), help_text="lost to slippage; part of pnl already"
            ),
        ),
        migrations.AddField(
            "trade",
            "funding",
            trading.fields.MoneyField(
                default=Decimal(0), help_text="received; negative: paid"
            ),
        ),
        migrations.AlterField(
            "trade",
            "pnl",
            trading.fields.MoneyField(help_text="realised, before fees and funding"),
        ),
        migrations.RunPython(carry_over, migrations.RunPython.noop),
    ]
