"""manage.py backfill_candles: fetch the history of instruments, holes included."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from collectors import selectors, services
from collectors.marketdata import TIMEFRAMES
from collectors.models import Backfill, BackfillState, Instrument

ALL = "all"
FOLLOW_S = 0.5
INTERRUPTED = 130


class Command(BaseCommand):
    """Backfills, one after the other; finally labelled holes are asked for again."""

    help = (
        "Fetch the candles that instruments lack between two moments, from the best source that "
        "has them. Run again after an interruption it goes on where it stood. Example: manage.py "
        "backfill_candles --instrument bitcoin ethereum --timeframe 1h --start 2025-01-01 "
        "--end 2025-02-01"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which series and which span."""
        parser.add_argument(
            "--instrument",
            required=True,
            nargs="+",
            action="extend",
            help=f"CoinGecko ids, such as bitcoin; {ALL} for every enabled instrument",
        )
        parser.add_argument("--timeframe", default="1h", help=f"one of {', '.join(TIMEFRAMES)}")
        parser.add_argument("--start", help="ISO 8601, UTC; the default history without it")
        parser.add_argument("--end", help="ISO 8601, UTC; now without it")
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object for each instrument"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Backfill; wrong input ends in one line and exit code 2, a failed source in 1."""
        instruments = chosen_instruments(options["instrument"])
        start, end = moment(options["start"], "--start"), moment(options["end"], "--end")
        with transaction.atomic():
            backfills = [
                backfill
                for instrument in instruments
                if (backfill := self._ask(instrument, options, start, end)) is not None
            ]
        done = self._work_off(backfills)
        for backfill in done:
            self._tell(backfill, as_json=options["json"])
        failed = [item for item in done if item.state != BackfillState.DONE]
        if failed:
            problem = failed[0].error or f"it was {failed[0].state}"
            raise CommandError(f"{failed[0].instrument} {failed[0].timeframe}: {problem}")

    def _ask(
        self,
        instrument: Instrument,
        options: dict[str, Any],
        start: datetime | None,
        end: datetime | None,
    ) -> Backfill | None:
        """The backfill's row; None when all were asked for and no source serves this one."""
        try:
            backfill = services.continue_backfill(
                instrument=instrument, timeframe=options["timeframe"], start=start, end=end
            )
        except services.BackfillRefused as error:
            if ALL in options["instrument"] and isinstance(error, services.NotServed):
                self.stderr.write(f"{error}: left out")
                return None
            option = f"--{error.field}: " if error.field in {"start", "end"} else ""
            raise CommandError(f"{option}{error}", returncode=2) from None
        if start is not None and backfill.start >= start + TIMEFRAMES[backfill.timeframe]:
            self.stderr.write(
                f"no source has candles of {backfill.instrument} before "
                f"{backfill.start:%Y-%m-%d}: begins there"
            )
        return backfill

    def _work_off(self, backfills: list[Backfill]) -> list[Backfill]:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        with Progress(
            *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
        ) as progress:
            bars = {
                item.pk: progress.add_task(f"{item.instrument} {item.timeframe}", total=100)
                for item in backfills
            }
            return [
                self._finish(item, partial(show, progress, bars[item.pk])) for item in backfills
            ]

    def _finish(self, backfill: Backfill, show: Any) -> Backfill:
        """Work it off, or follow whoever does."""
        try:
            while True:
                services.run_backfill(backfill_id=backfill.pk, on_progress=show)
                backfill.refresh_from_db()
                show(backfill)
                if backfill.state not in (BackfillState.QUEUED, BackfillState.RUNNING):
                    return backfill
                time.sleep(FOLLOW_S)
        except KeyboardInterrupt:
            services.cancel_backfill(backfill_id=backfill.pk)
            backfill.refresh_from_db()
            raise CommandError(
                f"stopped at {backfill.position:%Y-%m-%d %H:%M}: run it again to go on",
                returncode=INTERRUPTED,
            ) from None

    def _tell(self, backfill: Backfill, *, as_json: bool) -> None:
        labels = selectors.hole_counts(
            instrument=backfill.instrument,
            timeframe=backfill.timeframe,
            start=backfill.start,
            end=backfill.end,
        )
        if as_json:
            names = ("timeframe", "state", "stored", "requests", "progress_pct", "error")
            values = {name: getattr(backfill, name) for name in names}
            values |= {name: getattr(backfill, name).isoformat() for name in ("start", "end")}
            self.stdout.write(
                json.dumps(
                    {"id": backfill.pk, "coin_id": str(backfill.instrument)} | values | labels
                )
            )
            return
        self.stdout.write(
            f"{backfill.instrument} {backfill.timeframe}: {backfill.stored} new candles, "
            f"{labels['pending']} may still come, {labels['no_trade']} without trade, "
            f"{labels['unrepairable']} unrepairable"
        )


def chosen_instruments(names: list[str]) -> list[Instrument]:
    """The named instruments, each once. Raises CommandError for an unknown one."""
    if ALL in names:
        return list(selectors.enabled_instruments())
    chosen = []
    for name in dict.fromkeys(names):
        try:
            chosen.append(selectors.instrument_by_coin_id(name))
        except Instrument.DoesNotExist:
            raise CommandError(f"unknown instrument {name!r}", returncode=2) from None
    return chosen


def show(progress: Progress, task: TaskID, backfill: Backfill) -> None:
    """Move the bar to where the backfill stands."""
    progress.update(task, completed=backfill.progress_pct)


def moment(text: str | None, name: str) -> datetime | None:
    """An option as an aware UTC datetime. Raises CommandError naming the option."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise CommandError(f"{name}: {text!r} is not an ISO 8601 time", returncode=2) from None
