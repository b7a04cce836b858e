"""Which periodic tasks exist, as the first start writes them; afterwards the admin decides."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask


@dataclass(frozen=True, kw_only=True)
class PeriodicSeed:
    """One row: a task and either a crontab (minute and hour, UTC) or an interval in seconds."""

    name: str
    task: str
    args: tuple[str, ...] = field(default=())
    minute: str = ""
    hour: str = "*"
    every_s: int = 0
    clock: Literal["market", "wall"] = "market"
    is_enabled: bool = True


def periodic_seeds() -> tuple[PeriodicSeed, ...]:
    """The table. A collection runs a minute after the close, when the venues have the candle; a
    sample is taken a minute before it.

    Macro series are looked at on the hour, as their releases are, and funding after it, as it
    settles on hours; what is not due costs no call.
    """
    env = settings.ENV
    return (
        PeriodicSeed(
            name="collect high frequency",
            task="collectors.tasks.collect_tier",
            args=("high_frequency",),
            minute="1-59/15",
        ),
        PeriodicSeed(
            name="collect hourly",
            task="collectors.tasks.collect_tier",
            args=("hourly",),
            minute="1",
        ),
        PeriodicSeed(
            name="sample prices",
            task="collectors.tasks.poll_samples",
            minute="14,29,44,59",
        ),
        PeriodicSeed(
            name="sample books",
            task="collectors.tasks.sample_books",
            minute="5",
        ),
        PeriodicSeed(
            name="refine samples",
            task="collectors.tasks.refine_samples",
            minute="20",
            hour="0",
        ),
        PeriodicSeed(
            name="collect macro",
            task="collectors.tasks.collect_macro_series",
            minute="0",
        ),
        PeriodicSeed(
            name="collect funding",
            task="collectors.tasks.collect_funding",
            minute="2",
        ),
        PeriodicSeed(
            name="discover instruments",
            task="collectors.tasks.discover_instruments",
            minute="10",
            hour="2",
        ),
        PeriodicSeed(
            name="refresh listings",
            task="collectors.tasks.refresh_listings",
            minute="15",
            hour="2",
        ),
        PeriodicSeed(
            name="repair candles",
            task="collectors.tasks.backfill_all",
            minute="40",
            hour="3",
        ),
        PeriodicSeed(
            name="reconcile books",
            task="trading.tasks.reconcile_accounts",
            every_s=300,
            clock="wall",
        ),
        # The bars that close at midnight are worked off by then, and the day is rolled.
        PeriodicSeed(
            name="daily reports", task="trading.tasks.write_daily_reports", minute="15", hour="0"
        ),
        PeriodicSeed(
            name="forget old events",
            task="realtime.tasks.forget_old_events",
            minute="20",
            hour="0",
            clock="wall",
        ),
        PeriodicSeed(
            name="forget old attempts",
            task="trading.tasks.forget_attempts",
            minute="25",
            hour="0",
            clock="wall",
        ),
        PeriodicSeed(
            name="archive days", task="mts_project.tasks.archive_days", minute="30", hour="4"
        ),
        PeriodicSeed(name="prune rows", task="mts_project.tasks.prune_rows", minute="0", hour="5"),
        PeriodicSeed(
            name="certify strategies again",
            task="signals.tasks.recertify_strategies",
            minute="50",
            hour="1",
        ),
        _sweep("sweep certificates", "signals.tasks.certify_due_strategies"),
        _sweep("sweep bar runs", "signals.tasks.run_due_bars", "1h", is_enabled=env.enable_signals),
        PeriodicSeed(
            name="sweep outcomes",
            task="signals.tasks.advance_outcomes",
            every_s=20,
            clock="wall",
        ),
        _sweep("load strategy files", "signals.tasks.load_strategy_files"),
        _sweep("sweep accounts", "trading.tasks.advance_accounts"),
        _sweep("watch the trading state", "trading.tasks.watch_trading_state"),
        _sweep("sweep signals from outside", "trading.tasks.execute_outside_signals"),
        PeriodicSeed(
            name="mark accounts", task="trading.tasks.mark_accounts", every_s=2, clock="wall"
        ),
        PeriodicSeed(
            name="settle what is not traded",
            task="trading.tasks.settle_delisted",
            every_s=60,
            clock="wall",
        ),
        _sweep("sweep orders", "trading.tasks.sweep_orders"),
        _sweep("sweep funding", "trading.tasks.pay_funding"),
        _sweep("sweep backfills", "collectors.tasks.sweep_backfills"),
        _sweep("sweep backtests", "trading.tasks.sweep_backtests"),
        _sweep("sweep events", "realtime.tasks.number_events"),
        _sweep("sweep alerts", "alerts.tasks.raise_due_alerts", is_enabled=env.enable_alerts),
        _sweep("sweep deliveries", "alerts.tasks.deliver_due", is_enabled=env.enable_alerts),
    )


# Tasks that are gone; their rows would send messages that nobody understands.
RETIRED = ("collectors.tasks.flush_provider_calls",)
# Rows in whose place there is another: the books were looked through once a day.
REPLACED = ("reconcile accounts",)


@transaction.atomic
def seed_schedule() -> int:
    """Write the rows that are not there yet and return how many; what exists stays as it is, but
    for rows of tasks that are gone and rows that others replace."""
    PeriodicTask.objects.filter(Q(task__in=RETIRED) | Q(name__in=REPLACED)).delete()
    present = set(PeriodicTask.objects.values_list("name", flat=True))
    missing = [seed for seed in periodic_seeds() if seed.name not in present]
    for seed in missing:
        PeriodicTask.objects.create(
            name=seed.name,
            task=seed.task,
            args=json.dumps(seed.args),
            headers=json.dumps({"clock": seed.clock}),
            enabled=seed.is_enabled,
            **_when(seed),
        )
    return len(missing)


def _sweep(name: str, task: str, *args: str, is_enabled: bool = True) -> PeriodicSeed:
    """A look, every five wall seconds, for work whose message was lost."""
    return PeriodicSeed(
        name=name, task=task, args=args, every_s=5, clock="wall", is_enabled=is_enabled
    )


def _when(seed: PeriodicSeed) -> dict[str, Any]:
    """The row that says when. These tables allow equal rows, so any of several will do."""
    if seed.every_s:
        return {"interval": _row(IntervalSchedule, every=seed.every_s, period="seconds")}
    every = dict.fromkeys(("day_of_week", "day_of_month", "month_of_year"), "*")
    zone = ZoneInfo("UTC")
    return {
        "crontab": _row(CrontabSchedule, minute=seed.minute, hour=seed.hour, timezone=zone, **every)
    }


def _row(model: Any, **fields: Any) -> Any:
    return model.objects.filter(**fields).first() or model.objects.create(**fields)
