"""The pages of what was said and run: records that nobody can change."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.urls import path
from django.utils.safestring import SafeString

from collectors.admin.records import RecordAdmin
from signals.admin.chart import chart_link, show_chart
from signals.admin.words import told_failures, told_outcome, told_silences
from signals.changes import describe_change
from signals.models import BarRun, InitialState, Signal, StrategyChange


@admin.register(Signal)
class SignalAdmin(RecordAdmin):
    list_display = [
        "at", "strategy", "instrument", "signal_type", "confidence", "price", "stop_loss",
        "take_profit", "position_size", "risk_level", "became", "chart",
    ]  # fmt: skip
    readonly_fields = ["became", "chart"]
    list_filter = ["strategy", "direction", "timeframe", "instrument"]
    search_fields = ["strategy", "instrument__coin_id", "instrument__symbol"]
    list_select_related = ["instrument", "outcome"]
    date_hierarchy = "at"

    def get_urls(self) -> list[Any]:
        """The chart of any strategy besides the pages of the rows."""
        show = partial(show_chart, model_admin=self)
        return [
            path("chart/", self.admin_site.admin_view(show), name="signals_strategy_chart"),
            *super().get_urls(),
        ]

    @admin.display(description="outcome", ordering="outcome__result")
    def became(self, signal: Signal) -> str:
        """What became of it."""
        return told_outcome(signal)

    @admin.display(description="chart")
    def chart(self, signal: Signal) -> SafeString:
        """The way to the chart of the days about the signal."""
        return chart_link(
            strategy=signal.strategy,
            coin_id=signal.instrument.coin_id,
            around=signal.bar_open_time,
        )


@admin.register(InitialState)
class InitialStateAdmin(RecordAdmin):
    list_display = ["strategy", "instrument", "timeframe", "bar_open_time", "direction"]
    list_filter = ["strategy", "direction", "timeframe"]
    list_select_related = ["instrument"]


@admin.register(BarRun)
class BarRunAdmin(RecordAdmin):
    list_display = [
        "bar_open_time", "timeframe", "state", "is_complete", "signal_count", "failed", "silent",
        "slowest", "started_at", "finished_at",
    ]  # fmt: skip
    list_filter = ["timeframe", "state", "is_complete"]
    date_hierarchy = "bar_open_time"
    fields = [
        "timeframe", "bar_open_time", "state", "is_complete", "signal_count", "failed", "silent",
        "took", "revisions", "started_at", "finished_at", "owner", "attempt", "leased_until",
    ]  # fmt: skip
    readonly_fields = fields

    @admin.display(description="failures")
    def failed(self, run: BarRun) -> str:
        """Who failed, and why."""
        return told_failures(run.failures)

    @admin.display(description="withheld")
    def silent(self, run: BarRun) -> str:
        """Who could say nothing of what, and why."""
        return told_silences(run.withheld)

    @admin.display(description="slowest")
    def slowest(self, run: BarRun) -> str:
        """Who took longest."""
        if not run.durations:
            return ""
        name = max(run.durations, key=lambda each: run.durations[each])
        return f"{name} {run.durations[name]:.3f} s"

    @admin.display(description="durations")
    def took(self, run: BarRun) -> str:
        """How long each took."""
        return ", ".join(f"{name} {value:.3f} s" for name, value in run.durations.items())


@admin.register(StrategyChange)
class StrategyChangeAdmin(RecordAdmin):
    list_display = ["at", "strategy", "by", "what"]
    list_filter = ["strategy", "by"]
    list_select_related = ["strategy"]
    fields = ["at", "strategy", "by", "what"]
    readonly_fields = fields

    @admin.display(description="what")
    def what(self, change: StrategyChange) -> str:
        """Each thing that was changed, from what to what."""
        return "; ".join(describe_change(change.changes))
