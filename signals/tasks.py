"""The Celery tasks of signals. Each looks in the tables for what is due."""

from collections import defaultdict

from celery import shared_task
from django.conf import settings

from collectors.turns import Turns
from signals import catalog, services
from signals.registry import TIMEFRAMES

_turns: defaultdict[str, Turns] = defaultdict(Turns)


@shared_task  # type: ignore[untyped-decorator]
def run_due_bars(timeframe: str) -> None:
    """Run every due bar of a timeframe, unless ENABLE_SIGNALS is off."""
    if not settings.ENV.enable_signals:
        return
    with _turns[timeframe].turn() as is_ours:
        if is_ours:
            services.run_due_bars(timeframe=timeframe)


@shared_task  # type: ignore[untyped-decorator]
def advance_outcomes() -> None:
    """Follow what became of the signals."""
    services.advance_outcomes()


@shared_task  # type: ignore[untyped-decorator]
def certify_due_strategies() -> None:
    """Make the certificates that are due."""
    services.certify_due_strategies()


@shared_task  # type: ignore[untyped-decorator]
def recertify_strategies() -> None:
    """Try the enabled strategies again, at other cuts of what is stored by now."""
    services.recertify_strategies()


@shared_task  # type: ignore[untyped-decorator]
def load_strategy_files() -> None:
    """Load what has changed in MTS_STRATEGY_DIR, and look for due bars of the timeframes that only
    files have: no sweep names them."""
    services.load_strategy_files()
    for timeframe in sorted(catalog.timeframes() - TIMEFRAMES):
        run_due_bars.delay(timeframe)
