"""How the commands that move files read their options; wrong input is one line, exit code 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from collectors.formats.schema import read_moment
from collectors.marketdata import TIMEFRAMES
from collectors.models import Instrument, MacroSeries


def moment_option(text: str | None, name: str) -> datetime | None:
    """An option as an aware UTC moment. Raises CommandError naming the option."""
    if text is None:
        return None
    try:
        return read_moment(text)
    except (ValueError, OverflowError):
        raise CommandError(f"{name}: {text!r} is not an ISO 8601 time", returncode=2) from None


def span_options(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """--start and --end. Raises CommandError when one is no time or they are in no order."""
    first, last = moment_option(start, "--start"), moment_option(end, "--end")
    if first is not None and last is not None and first >= last:
        raise CommandError("--start must be before --end", returncode=2)
    return first, last


def timeframe_option(timeframe: str | None) -> str | None:
    """--timeframe. Raises CommandError for an unknown one."""
    if timeframe is not None and timeframe not in TIMEFRAMES:
        known = ", ".join(TIMEFRAMES)
        raise CommandError(f"unknown timeframe {timeframe!r}; known: {known}", returncode=2)
    return timeframe


def instruments_option(names: Sequence[str]) -> list[Instrument]:
    """--instrument, all without it. Raises CommandError for an unknown one."""
    found = {item.coin_id: item for item in Instrument.objects.all()}
    for name in names:
        if name not in found:
            raise CommandError(f"unknown instrument {name!r}", returncode=2)
    return [found[name] for name in dict.fromkeys(names)] if names else list(found.values())


def series_option(names: Sequence[str]) -> list[MacroSeries]:
    """--series, all without it. Raises CommandError for an unknown one."""
    found = {item.series_id: item for item in MacroSeries.objects.all()}
    for name in names:
        if name not in found:
            raise CommandError(f"unknown series {name!r}", returncode=2)
    return [found[name] for name in dict.fromkeys(names)] if names else list(found.values())


class RowProgress:
    """A progress bar of rows on the standard error stream, for as long as the block runs."""

    def __init__(self, title: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(title, total=None)

    def __enter__(self) -> Callable[[int, int], None]:
        self._progress.start()
        return lambda done, total: self._progress.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
