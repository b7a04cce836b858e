"""manage.py collect: do the work of one tier now."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from collectors import clock, selectors, services
from collectors.exchange import ProviderError
from collectors.models import Tier

# What was done, a mapping for each series, provider or look; `errors` is in every one.
Rows = list[dict[str, Any]]
Advance = Callable[[], object]

HEADINGS = {
    "coin_id": "instrument",
    "timeframe": "timeframe",
    "series_id": "series",
    "registered": "registered",
    "stored": "new",
    "listings_added": "listings added",
    "listings_changed": "listings changed",
    "awaited": "awaited",
    "pending": "pending",
    "no_trade": "no trade",
    "unrepairable": "unrepairable",
}


class Command(BaseCommand):
    """Every series of a tier, one after the other."""

    help = (
        "Do what a tier does at its time, now: fetch what the candles of high_frequency or hourly "
        "lack, the macro series and funding settlements that are due, or discover the largest "
        "coins and compare the listings. Example: manage.py collect hourly --json"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The tier, and `--json`."""
        parser.add_argument("tier", help=f"one of {', '.join(TIERS)}")
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do the tier's work; exit code 1 when a source failed."""
        tier = options["tier"]
        if tier not in TIERS:
            known = ", ".join(TIERS)
            raise CommandError(f"unknown tier {tier!r}; known: {known}", returncode=2)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(f"collect {tier}", total=None)
            rows = TIERS[tier](lambda: progress.advance(task))
        if options["json"]:
            self.stdout.write(json.dumps(rows))
        elif rows:
            Console().print(table_of(rows))
        else:
            self.stdout.write("nothing was due")
        errors = [error for row in rows for error in row["errors"]]
        for error in dict.fromkeys(errors):
            self.stderr.write(error)
        if errors:
            raise SystemExit(1)


def cover_candles(tier: str, advance: Advance) -> Rows:
    """The series of a candle tier that lacked something."""

    def count(coverage: services.Coverage) -> None:
        advance()

    results = services.cover_tier(tier=tier, on_series=count)
    return [msgspec.to_builtins(item) for item in results]


def collect_macro(advance: Advance) -> Rows:
    """The macro series that are due; a failure does not stop the others."""
    rows: Rows = []
    for series_id in selectors.due_macro_series(moment=clock.now()):
        row: dict[str, Any] = {"series_id": series_id, "stored": 0, "errors": []}
        try:
            row["stored"] = services.collect_macro(series_id=series_id)
        except ProviderError as error:
            row["errors"].append(f"{series_id}: {error}")
        rows.append(row)
        advance()
    services.flag_stale_series()
    return rows


def collect_funding(advance: Advance) -> Rows:
    """The settlements that are due at all exchanges, in one row."""
    result = services.ensure_funding()
    advance()
    return [msgspec.to_builtins(result)]


def discover(advance: Advance) -> Rows:
    """The largest coins and the exchanges' lists, in one row."""
    registered: list[str] = []
    errors: list[str] = []
    try:
        registered = services.discover_instruments()
    except ProviderError as error:
        errors.append(str(error))
    advance()
    refreshed = services.refresh_listings()
    advance()
    return [
        {
            "registered": registered,
            "listings_added": refreshed.added,
            "listings_changed": refreshed.changed,
            "errors": errors + refreshed.errors,
        }
    ]


def candle_work(tier: str) -> Callable[[Advance], Rows]:
    """The work of one candle tier."""
    return lambda advance: cover_candles(tier, advance)


TIERS: dict[str, Callable[[Advance], Rows]] = {
    **{tier: candle_work(tier) for tier in Tier.values},
    "macro": collect_macro,
    "funding": collect_funding,
    "discovery": discover,
}


def table_of(rows: Rows) -> Table:
    """The rows as a table for people."""
    names = [name for name in HEADINGS if name in rows[0]]
    table = Table(*(HEADINGS[name] for name in names))
    for row in rows:
        table.add_row(*(_text(row[name]) for name in names))
    return table


def _text(value: Any) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)
