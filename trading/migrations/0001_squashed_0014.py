"""The tables of trading as the fourteen first migrations leave them, made at once.

A new installation begins here; one that has made some of them goes on with the others. Each of
them renders all models of the project again and again: together they took longer than everything
else that a first start does. Who has them all can go back to none of them alone.
"""

from decimal import Decimal
from importlib import import_module

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import trading.fields
import trading.models.accounts

ledger_for_ever = import_module("trading.migrations.0005_ledger_for_ever")


class Migration(migrations.Migration):
    replaces = [
        ("trading", "0001_initial"),
        ("trading", "0002_orders_that_rest"),
        ("trading", "0003_double_entry"),
        ("trading", "0004_constraints"),
        ("trading", "0005_ledger_for_ever"),
        ("trading", "0006_turns_of_outside_signals"),
        ("trading", "0007_attempts_once"),
        ("trading", "0008_funding_corrections"),
        ("trading", "0009_where_orders_met_the_market"),
        ("trading", "0010_missed_bars"),
        ("trading", "0011_records_of_backtests"),
        ("trading", "0012_off_market"),
        ("trading", "0013_refused_requests"),
        ("trading", "0014_quick_looks"),
    ]

    initial = True

    dependencies = [
        ("collectors", "0014_answered_writes"),
        ("risk", "0001_initial"),
        ("signals", "0008_strategy_files"),
    ]

    operations = [
        migrations.CreateModel(
            name="Backtest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("strategy_name", models.CharField(max_length=64)),
                ("instruments", models.JSONField()),
                ("timeframe", models.CharField(default="1h", max_length=4)),
                ("start_date", models.DateTimeField()),
                ("end_date", models.DateTimeField()),
                ("parameters", models.JSONField(blank=True, default=dict)),
                ("initial_capital", trading.fields.MoneyField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("done", "Done"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="queued",
                        max_length=9,
                    ),
                ),
                ("progress_pct", models.FloatField(default=0.0)),
                ("error", models.CharField(blank=True, max_length=300)),
                ("final_value", trading.fields.MoneyField(null=True)),
                ("total_return", models.FloatField(null=True)),
                ("sharpe_ratio", models.FloatField(null=True)),
                ("max_drawdown", models.FloatField(null=True)),
                ("trade_count", models.PositiveIntegerField(null=True)),
                ("metrics", models.JSONField(default=dict)),
                (
                    "revisions",
                    models.JSONField(default=dict, help_text="series revisions that it read"),
                ),
                ("created_at", models.DateTimeField(help_text="wall time")),
                ("finished_at", models.DateTimeField(help_text="wall time", null=True)),
                ("owner", models.CharField(blank=True, max_length=64)),
                ("attempt", models.PositiveIntegerField(default=0)),
                ("leased_until", models.DateTimeField(null=True)),
                (
                    "record",
                    models.JSONField(
                        default=dict,
                        editable=False,
                        help_text="its trades and marks, as its report draws them",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Account",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64, unique=True)),
                (
                    "exchange",
                    models.CharField(default="binance", help_text="where it trades", max_length=16),
                ),
                (
                    "timeframe",
                    models.CharField(
                        default="1h", help_text="whose bar runs it follows", max_length=4
                    ),
                ),
                (
                    "subscriptions",
                    models.JSONField(
                        blank=True,
                        default=trading.models.accounts.default_subscriptions,
                        help_text="the strategies that it follows; with none it only "
                        "keeps what it holds",
                        validators=[trading.models.accounts.validate_subscriptions],
                    ),
                ),
                ("initial_capital", trading.fields.MoneyField()),
                ("cash", trading.fields.MoneyField()),
                ("high_water_mark", trading.fields.MoneyField()),
                ("day_start_equity", trading.fields.MoneyField()),
                ("day", models.DateField(help_text="the UTC market day of day_start_equity")),
                ("is_active", models.BooleanField(default=True)),
                (
                    "processed_bar",
                    models.DateTimeField(
                        blank=True,
                        help_text="open time of the last bar run that was executed",
                        null=True,
                    ),
                ),
                ("created_at", models.DateTimeField(help_text="market time")),
                (
                    "profile",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="account",
                        to="risk.riskprofile",
                    ),
                ),
                (
                    "latency_ms",
                    models.PositiveIntegerField(
                        default=100,
                        help_text="market milliseconds from an order to the first "
                        "quote that it can meet",
                        validators=[django.core.validators.MaxValueValidator(60000)],
                    ),
                ),
                (
                    "is_pyramiding",
                    models.BooleanField(
                        default=False,
                        help_text="a signal in the direction that is held adds to the position",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("exchange", models.CharField(max_length=16)),
                ("symbol", models.CharField(max_length=32)),
                (
                    "leg",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("close", "Close"),
                            ("stop_loss", "Stop Loss"),
                            ("take_profit", "Take Profit"),
                            ("liquidation", "Liquidation"),
                        ],
                        max_length=12,
                    ),
                ),
                (
                    "side",
                    models.CharField(choices=[("buy", "Buy"), ("sell", "Sell")], max_length=4),
                ),
                ("quantity_steps", models.BigIntegerField()),
                ("tick_size", models.CharField(max_length=24)),
                ("quantity_step", models.CharField(max_length=24)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("working", "working: waits for the market"),
                            ("filled", "Filled"),
                            ("cancelled", "Cancelled"),
                            ("expired", "Expired"),
                        ],
                        default="working",
                        max_length=9,
                    ),
                ),
                ("at", models.DateTimeField(help_text="market time")),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="orders",
                        to="trading.account",
                    ),
                ),
                (
                    "decision",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="orders",
                        to="risk.riskdecision",
                    ),
                ),
                (
                    "instrument",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="collectors.instrument"
                    ),
                ),
                (
                    "signal",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="orders",
                        to="signals.signal",
                    ),
                ),
                (
                    "key",
                    models.CharField(
                        blank=True,
                        help_text="names the wish: the same key never orders twice",
                        max_length=96,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("market", "market: at what there is"),
                            ("limit", "limit: at its price or better"),
                            ("stop", "stop: a market order once its trigger is touched"),
                            ("stop_limit", "stop-limit: a limit order once its trigger is touched"),
                            ("trailing_stop", "trailing stop: a stop that follows the market"),
                        ],
                        default="market",
                        max_length=13,
                    ),
                ),
                ("filled_steps", models.BigIntegerField(default=0)),
                ("limit_ticks", models.BigIntegerField(blank=True, null=True)),
                ("trigger_ticks", models.BigIntegerField(blank=True, null=True)),
                (
                    "trail_ticks",
                    models.BigIntegerField(
                        blank=True,
                        help_text="how far a trailing stop stays behind its watermark",
                        null=True,
                    ),
                ),
                (
                    "watermark_ticks",
                    models.BigIntegerField(
                        blank=True,
                        help_text="the best price since a trailing stop works",
                        null=True,
                    ),
                ),
                ("is_triggered", models.BooleanField(default=False)),
                (
                    "stop_loss",
                    models.FloatField(
                        blank=True, help_text="of the position that an entry opens", null=True
                    ),
                ),
                (
                    "take_profit",
                    models.FloatField(
                        blank=True, help_text="of the position that an entry opens", null=True
                    ),
                ),
                (
                    "time_in_force",
                    models.CharField(
                        choices=[
                            ("gtc", "until it is filled or cancelled"),
                            ("gtd", "until its expiry"),
                            ("ioc", "not at all: what is not filled at once is cancelled"),
                        ],
                        default="gtc",
                        max_length=3,
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(blank=True, help_text="market time", null=True),
                ),
                (
                    "oco",
                    models.CharField(blank=True, help_text="one cancels the other", max_length=48),
                ),
                (
                    "reason",
                    models.CharField(
                        blank=True,
                        help_text="why it was placed or did not fill, in words",
                        max_length=200,
                    ),
                ),
                (
                    "placed_by",
                    models.CharField(blank=True, help_text="empty: the machine", max_length=150),
                ),
                (
                    "judged_from",
                    models.DateTimeField(
                        blank=True,
                        help_text="open time of the first candle that may fill or trigger it",
                        null=True,
                    ),
                ),
                ("ended_at", models.DateTimeField(blank=True, help_text="market time", null=True)),
                (
                    "met_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="market time of the newest input that changed it",
                        null=True,
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "working")),
                        fields=["account", "instrument"],
                        name="order_working",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("signal__isnull", False)),
                        fields=("account", "signal", "leg"),
                        name="order_once_per_signal",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("key", ""), _negated=True),
                        fields=("account", "key"),
                        name="order_once_per_key",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("quantity_steps__gt", 0),
                            ("filled_steps__gte", 0),
                            ("filled_steps__lte", models.F("quantity_steps")),
                        ),
                        name="order_quantity_possible",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Fill",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("price_ticks", models.BigIntegerField()),
                ("quantity_steps", models.BigIntegerField()),
                ("fee", trading.fields.MoneyField()),
                ("realised_pnl", trading.fields.MoneyField()),
                ("slippage_bps", models.FloatField()),
                ("quote", models.JSONField(help_text="the recorded inputs of the simulator")),
                (
                    "bar_open_time",
                    models.DateTimeField(help_text="the bar of the signal or of the trigger"),
                ),
                ("at", models.DateTimeField(help_text="market time")),
                ("recorded_at", models.DateTimeField(help_text="wall time")),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="fills",
                        to="trading.account",
                    ),
                ),
                (
                    "order",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="fills",
                        to="trading.order",
                    ),
                ),
                ("trigger", models.CharField(max_length=96)),
                (
                    "liquidity",
                    models.CharField(
                        choices=[("taker", "Taker"), ("maker", "Maker")],
                        default="taker",
                        max_length=5,
                    ),
                ),
                (
                    "slippage",
                    trading.fields.MoneyField(
                        help_text="lost against the price that was there, in quote units"
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["account", "at"], name="fill_by_time")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("order", "trigger"), name="fill_once_per_trigger"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="PendingSignal",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="pending_signals",
                        to="trading.account",
                    ),
                ),
                (
                    "instrument",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="collectors.instrument"
                    ),
                ),
                (
                    "signal",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="signals.signal",
                    ),
                ),
            ],
            options={
                "ordering": ["account", "instrument"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("account", "instrument"), name="pending_signal_unique"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Position",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("quantity_steps", models.BigIntegerField(default=0, help_text="signed")),
                ("total_cost", trading.fields.MoneyField(default=Decimal("0"))),
                ("realised_pnl", trading.fields.MoneyField(default=Decimal("0"))),
                ("tick_size", models.CharField(max_length=24)),
                ("quantity_step", models.CharField(max_length=24)),
                ("stop_loss", models.FloatField(blank=True, null=True)),
                ("take_profit", models.FloatField(blank=True, null=True)),
                (
                    "entered_at",
                    models.DateTimeField(blank=True, help_text="market time", null=True),
                ),
                (
                    "stopped_direction",
                    models.SmallIntegerField(
                        default=0,
                        help_text="direction that may not be entered again until "
                        "the signal changes",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="positions",
                        to="trading.account",
                    ),
                ),
                (
                    "entry_signal",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="signals.signal",
                    ),
                ),
                (
                    "instrument",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="collectors.instrument"
                    ),
                ),
                ("round_entry_steps", models.BigIntegerField(default=0)),
                (
                    "round_entry_value",
                    trading.fields.MoneyField(
                        default=Decimal("0"), help_text="notional, never negative"
                    ),
                ),
                ("round_exit_steps", models.BigIntegerField(default=0)),
                (
                    "round_exit_value",
                    trading.fields.MoneyField(
                        default=Decimal("0"), help_text="notional, never negative"
                    ),
                ),
                (
                    "round_pnl",
                    trading.fields.MoneyField(
                        default=Decimal("0"), help_text="realised, before fees and funding"
                    ),
                ),
                ("round_fees", trading.fields.MoneyField(default=Decimal("0"))),
                ("round_slippage", trading.fields.MoneyField(default=Decimal("0"))),
                (
                    "round_funding",
                    trading.fields.MoneyField(
                        default=Decimal("0"), help_text="received; negative: paid"
                    ),
                ),
                (
                    "off_market_since",
                    models.DateTimeField(
                        blank=True,
                        help_text="market time from which it was seen not to be traded",
                        null=True,
                    ),
                ),
            ],
            options={
                "ordering": ["account", "instrument"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("quantity_steps", 0), _negated=True),
                        fields=["account"],
                        name="position_open",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("account", "instrument"), name="position_unique"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Trade",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("strategy", models.CharField(max_length=64)),
                ("direction", models.SmallIntegerField()),
                (
                    "quantity",
                    models.CharField(help_text="decimal string, base units", max_length=32),
                ),
                ("entry_price", models.FloatField()),
                ("exit_price", models.FloatField()),
                ("pnl", trading.fields.MoneyField(help_text="realised, before fees and funding")),
                ("fees", trading.fields.MoneyField()),
                ("entered_at", models.DateTimeField(help_text="market time")),
                ("exited_at", models.DateTimeField(help_text="market time")),
                ("exit_reason", models.CharField(max_length=16)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="trades",
                        to="trading.account",
                    ),
                ),
                (
                    "exit_fill",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="trade",
                        to="trading.fill",
                    ),
                ),
                (
                    "instrument",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="collectors.instrument"
                    ),
                ),
                (
                    "slippage",
                    trading.fields.MoneyField(
                        default=Decimal("0"), help_text="lost to slippage; part of pnl already"
                    ),
                ),
                (
                    "funding",
                    trading.fields.MoneyField(
                        default=Decimal("0"), help_text="received; negative: paid"
                    ),
                ),
            ],
            options={
                "ordering": ["-exited_at"],
                "indexes": [
                    models.Index(
                        fields=["account", "strategy", "id"], name="trade_of_strategy_from"
                    ),
                    models.Index(fields=["exited_at"], name="trade_by_exit"),
                ],
            },
        ),
        migrations.CreateModel(
            name="EquityPoint",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(help_text="market time")),
                ("equity", trading.fields.MoneyField()),
                ("cash", trading.fields.MoneyField()),
                ("gross_exposure", trading.fields.MoneyField()),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="equity_points",
                        to="trading.account",
                    ),
                ),
            ],
            options={
                "ordering": ["-at"],
                "constraints": [
                    models.UniqueConstraint(fields=("account", "at"), name="equity_point_unique")
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerTransaction",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("deposit", "Deposit"), ("fill", "Fill"), ("funding", "Funding")],
                        max_length=8,
                    ),
                ),
                ("key", models.CharField(max_length=64)),
                ("at", models.DateTimeField(help_text="market time")),
                ("recorded_at", models.DateTimeField(help_text="wall time")),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="transactions",
                        to="trading.account",
                    ),
                ),
                (
                    "fill",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="transaction",
                        to="trading.fill",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "constraints": [
                    models.UniqueConstraint(fields=("account", "key"), name="transaction_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "book",
                    models.CharField(
                        choices=[
                            ("cash", "Cash"),
                            ("capital", "Capital"),
                            ("fees", "Fees"),
                            ("funding", "Funding"),
                            ("realised_pnl", "Realised Pnl"),
                        ],
                        max_length=12,
                    ),
                ),
                ("amount", trading.fields.MoneyField()),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="trading.account",
                    ),
                ),
                (
                    "transaction",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="trading.ledgertransaction",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "verbose_name_plural": "ledger entries",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("transaction", "book"), name="entry_once_per_book"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("amount", 0), _negated=True), name="entry_not_empty"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ExecutionAttempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "outcome",
                    models.CharField(
                        choices=[("done", "Done"), ("failed", "Failed")], max_length=6
                    ),
                ),
                ("error", models.CharField(blank=True, max_length=300)),
                ("duration_ms", models.FloatField()),
                ("at", models.DateTimeField(help_text="wall time")),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attempts",
                        to="trading.account",
                    ),
                ),
                (
                    "order",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="trading.order",
                    ),
                ),
                (
                    "signal",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="signals.signal",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["account", "-id"], name="attempt_newest")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("outcome", "done"), ("signal__isnull", False)),
                        fields=("account", "signal"),
                        name="attempt_done_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="FundingPayment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "quantity_steps",
                    models.BigIntegerField(help_text="signed, as held at the funding time"),
                ),
                ("mark_price", models.FloatField(help_text="that it was reckoned with")),
                ("rate", models.FloatField(help_text="that it was reckoned with")),
                ("amount", trading.fields.MoneyField(help_text="received; negative: paid")),
                ("at", models.DateTimeField(help_text="the exchange's funding time (market time)")),
                ("recorded_at", models.DateTimeField(help_text="wall time")),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="funding",
                        to="trading.account",
                    ),
                ),
                (
                    "position",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="funding",
                        to="trading.position",
                    ),
                ),
                (
                    "settlement",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payments",
                        to="collectors.fundingrate",
                    ),
                ),
                (
                    "mark_source",
                    models.CharField(
                        choices=[
                            ("settlement", "settlement: the exchange said it"),
                            ("candle", "candle: the last close by the funding time"),
                            ("cost", "cost: the average price paid, as no candle is known"),
                        ],
                        default="settlement",
                        max_length=10,
                    ),
                ),
                (
                    "revision",
                    models.PositiveSmallIntegerField(default=0, help_text="above 0: a correction"),
                ),
            ],
            options={
                "ordering": ["-at", "-id"],
                "indexes": [
                    models.Index(fields=["at"], name="funding_payment_by_time"),
                    models.Index(fields=["account", "-id"], name="funding_payment_newest"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("account", "settlement", "revision"), name="funding_payment_once"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OutsideTurn",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "result",
                    models.CharField(
                        choices=[
                            ("executed", "executed: orders, decision or pending signal say how"),
                            ("late", "late: it only closed"),
                            ("overtaken", "overtaken: a newer one was there"),
                        ],
                        max_length=9,
                    ),
                ),
                ("at", models.DateTimeField(help_text="market time")),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="outside_turns",
                        to="trading.account",
                    ),
                ),
                (
                    "signal",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="signals.signal",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "constraints": [
                    models.UniqueConstraint(fields=("account", "signal"), name="outside_turn_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerMismatch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("fingerprint", models.CharField(help_text="of what was found", max_length=32)),
                (
                    "found",
                    models.JSONField(help_text="in words, one for each thing that does not add up"),
                ),
                ("at", models.DateTimeField(help_text="market time of the first time")),
                ("first_seen_at", models.DateTimeField(help_text="wall time")),
                ("last_seen_at", models.DateTimeField(help_text="wall time")),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="mismatches",
                        to="trading.account",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "ledger mismatches",
                "ordering": ["-last_seen_at"],
                "constraints": [
                    models.UniqueConstraint(fields=("account", "fingerprint"), name="mismatch_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="MissedBar",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("timeframe", models.CharField(max_length=4)),
                ("open_time", models.DateTimeField()),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="missed_bars",
                        to="trading.account",
                    ),
                ),
                (
                    "instrument",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="collectors.instrument"
                    ),
                ),
            ],
            options={
                "ordering": ["account", "open_time", "instrument"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("account", "instrument", "timeframe", "open_time"),
                        name="missed_bar_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="RefusedRequest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(db_index=True, help_text="market time")),
                ("address", models.CharField(max_length=200)),
                ("by", models.CharField(max_length=150)),
                ("reason", models.CharField(max_length=300)),
                (
                    "asked",
                    models.CharField(
                        blank=True,
                        help_text="the beginning of what was understood of it",
                        max_length=1000,
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="refused_requests",
                        to="trading.account",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.RunPython(ledger_for_ever.guard, ledger_for_ever.unguard),
    ]
