"""Backtests as asked for and, once done, their results."""

from __future__ import annotations

from django.db import models

from trading.fields import MoneyField


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
    record = models.JSONField(
        default=dict, editable=False, help_text="its trades and marks, as its report draws them"
    )
    created_at = models.DateTimeField(help_text="wall time")
    finished_at = models.DateTimeField(null=True, help_text="wall time")
    owner = models.CharField(max_length=64, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.strategy_name} {self.start_date:%Y-%m-%d} - {self.end_date:%Y-%m-%d}"
