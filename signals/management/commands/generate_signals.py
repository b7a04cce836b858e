"""`manage.py generate_signals`: runs every due bar now and shows the signals."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from signals.publication import signal_json
from signals.registry import TIMEFRAMES
from signals.selectors import signals_of_run
from signals.services import run_due_bars


class Command(BaseCommand):
    """Does what the worker does when candles arrive; safe beside a running worker."""

    help = "Run every due bar of a timeframe. Example: manage.py generate_signals --timeframe 1h"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--timeframe", default="1h", choices=sorted(TIMEFRAMES))
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *, timeframe: str, **options: Any) -> None:
        """Run the due bars, then print one line per run and signal."""
        shown = []
        for run in run_due_bars(timeframe=timeframe):
            stored = signals_of_run(timeframe=timeframe, bar_open_time=run.bar_open_time)
            shown.append((run, [signal_json(signal) for signal in stored]))
        if options["json"]:
            runs = [
                {
                    "timeframe": run.timeframe,
                    "bar_open_time": run.bar_open_time.isoformat(),
                    "is_complete": run.is_complete,
                    "failures": run.failures,
                    "signals": signals,
                }
                for run, signals in shown
            ]
            self.stdout.write(json.dumps(runs))
            return
        if not shown:
            self.stdout.write(f"no {timeframe} bar is due")
        for run, signals in shown:
            self.stdout.write(f"{run}: {len(signals)} signals")
            for signal in signals:
                self.stdout.write(
                    f"  {signal['strategy']} {signal['asset']} {signal['signal_type']}"
                    f" at {signal['price']:g}, confidence {signal['confidence']:.2f}"
                )
