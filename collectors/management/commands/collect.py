"""manage.py collect: cover one tier now."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from collectors import services
from collectors.models import Tier


class Command(BaseCommand):
    """Every series of a tier, one after the other."""

    help = (
        "Fetch what the candle tables of a tier lack up to now. "
        "Example: manage.py collect hourly --json"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The tier, and `--json`."""
        parser.add_argument("tier", help=f"one of {', '.join(Tier.values)}")
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        """Cover the tier; exit code 1 when a source failed."""
        tier = options["tier"]
        if tier not in Tier.values:
            known = ", ".join(Tier.values)
            raise CommandError(f"unknown tier {tier!r}; known: {known}", returncode=2)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"collect {tier}", total=None)
            results = services.cover_tier(
                tier=tier, on_series=lambda coverage: progress.advance(task)
            )
        if options["json"]:
            self.stdout.write(json.dumps([msgspec.to_builtins(item) for item in results]))
        else:
            Console().print(coverage_table(results))
        if any(item.errors for item in results):
            raise SystemExit(1)


def coverage_table(results: list[services.Coverage]) -> Table:
    """The results as a table for people."""
    table = Table(
        "instrument", "timeframe", "new", "awaited", "pending", "no trade", "unrepairable"
    )
    for item in results:
        counts = (item.stored, item.awaited, item.pending, item.no_trade, item.unrepairable)
        table.add_row(item.coin_id, item.timeframe, *map(str, counts))
    return table
