"""manage.py backfill_candles: fetch the history of one instrument, holes included."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress

from collectors import clock, selectors, services
from collectors.marketdata import TIMEFRAMES
from collectors.models import Instrument

# All candles of a run are held in memory. Ten years of quarter-hours fit.
MOST_BARS = 400_000


class Command(BaseCommand):
    """One series; finally labelled holes are asked for again."""

    help = (
        "Fetch the candles that an instrument lacks between two moments, from the best source "
        "that has them. Example: manage.py backfill_candles --instrument bitcoin "
        "--timeframe 1h --start 2025-01-01 --end 2025-02-01"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which series and which span."""
        parser.add_argument("--instrument", required=True, help="CoinGecko id, such as bitcoin")
        parser.add_argument("--timeframe", default="1h", help=f"one of {', '.join(TIMEFRAMES)}")
        parser.add_argument("--start", help="ISO 8601, UTC; the default history without it")
        parser.add_argument("--end", help="ISO 8601, UTC; now without it")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Backfill; wrong input ends in one line and exit code 2, a failed source in 1."""
        try:
            instrument = selectors.instrument_by_coin_id(options["instrument"])
        except Instrument.DoesNotExist:
            raise CommandError(
                f"unknown instrument {options['instrument']!r}", returncode=2
            ) from None
        timeframe = options["timeframe"]
        if timeframe not in TIMEFRAMES:
            known = ", ".join(TIMEFRAMES)
            raise CommandError(f"unknown timeframe {timeframe!r}; known: {known}", returncode=2)
        start = moment(options["start"], "--start") or services.default_history_start()
        end = moment(options["end"], "--end") or clock.now()
        start, end = self._span(instrument, timeframe, start, min(end, clock.now()))
        result = self._backfill(instrument, timeframe, start, end)
        if options["json"]:
            self.stdout.write(json.dumps(msgspec.to_builtins(result)))
        else:
            self.stdout.write(
                f"{result.coin_id} {timeframe}: {result.stored} new candles, "
                f"{result.awaited + result.pending} may still come, {result.no_trade} without "
                f"trade, {result.unrepairable} unrepairable"
            )
        if result.is_busy:
            raise CommandError("another process is collecting this series now: try again")
        if result.errors:
            raise CommandError(result.errors[0])

    def _span(
        self, instrument: Instrument, timeframe: str, start: datetime, end: datetime
    ) -> tuple[datetime, datetime]:
        """What of [start, end) any source can have. Raises CommandError for an absurd span."""
        if start >= end:
            raise CommandError("--start must be before --end and in the past", returncode=2)
        if start < services.EARLIEST:
            raise CommandError(
                f"--start: no source has candles before {services.EARLIEST:%Y-%m-%d}", returncode=2
            )
        served = services.served_from(instrument)
        if end <= served:
            raise CommandError(
                f"no source has candles of {instrument} before {served:%Y-%m-%d}", returncode=2
            )
        if start < served:
            self.stderr.write(
                f"no source has candles of {instrument} before {served:%Y-%m-%d}: begins there"
            )
            start = served
        bars = (end - start) // TIMEFRAMES[timeframe]
        if bars > MOST_BARS:
            raise CommandError(
                f"{bars:,} bars are too many at once, {MOST_BARS:,} at most: ask for a part",
                returncode=2,
            )
        return start, end

    def _backfill(
        self, instrument: Instrument, timeframe: str, start: datetime, end: datetime
    ) -> services.Coverage:
        bars = (end - start) // TIMEFRAMES[timeframe]
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"{instrument.coin_id} {timeframe}", total=bars)
            return services.ensure_coverage(
                instrument=instrument,
                timeframe=timeframe,
                until=end,
                start=start,
                retry_labelled=True,
                on_progress=lambda found: progress.update(task, completed=found),
            )


def moment(text: str | None, name: str) -> datetime | None:
    """An option as an aware UTC datetime. Raises CommandError naming the option."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise CommandError(f"{name}: {text!r} is not an ISO 8601 time", returncode=2) from None
