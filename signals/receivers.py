"""What signals does when something happens upstream: it only enqueues."""

from django.dispatch import receiver

from collectors.events import candles_stored, macro_stored
from signals.catalog import timeframes
from signals.tasks import run_due_bars


@receiver(candles_stored)
def run_bars_of_new_candles(timeframe: str, **_: object) -> None:
    """New candles may complete a bar."""
    if timeframe in timeframes():
        run_due_bars.delay(timeframe)


@receiver(macro_stored)
def run_bars_of_new_macro(**_: object) -> None:
    """A macro release may be what a bar waits for."""
    for timeframe in sorted(timeframes()):
        run_due_bars.delay(timeframe)
