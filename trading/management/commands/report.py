"""Writes the report of an account, as JSON and as a page, and prints what it came to."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from trading.models import Account
from trading.reports.content import content_text
from trading.reports.tables import metric_tables
from trading.services import write_report

EXAMPLE = "example: manage.py report --account paper --start 2025-01-01 --end 2025-04-01"


class Command(BaseCommand):
    """`manage.py report`."""

    help = (
        "Write the report of an account to MTS_DATA_DIR/reports, as JSON and as a page with charts"
        " that needs nothing else, and print its figures."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Whose, of when, and how to answer."""
        parser.epilog = EXAMPLE
        parser.add_argument("--account", default="paper", help="its name or number")
        parser.add_argument("--start", type=_moment, help="ISO date or time, UTC; default: all")
        parser.add_argument("--end", type=_moment, help="ISO date or time, UTC; default: now")
        parser.add_argument("--json", action="store_true", help="print JSON for programs")

    def handle(self, *_: Any, **options: Any) -> None:
        """Write and print; wrong input ends with one line and exit code 2."""
        account = _account(options["account"])
        console = Console(file=sys.stderr)
        try:
            # How long it takes depends on what is read, which is not known before.
            with console.status(f"reading the books of {account.name}", spinner="line"):
                written = write_report(
                    account_id=account.pk, start=options["start"], end=options["end"]
                )
        except (ValueError, OSError) as error:
            raise CommandError(str(error), returncode=2) from None
        if options["json"]:
            files = {"html": str(written.html), "json": str(written.json)}
            self.stdout.write(content_text({"files": files, **written.report.content()}))
            return
        out = Console(file=sys.stdout)
        for table in metric_tables(written.report):
            shown = Table(title=table.title, title_justify="left", min_width=48)
            shown.add_column("metric")
            shown.add_column("value", justify="right")
            for row in table.rows:
                shown.add_row(*row)
            out.print(shown)
        self.stdout.write(f"{written.json}\n{written.html}")


def _account(wanted: str) -> Account:
    """By name, else by number."""
    found = Account.objects.filter(name=wanted).first()
    if found is None and wanted.isdecimal() and len(wanted) < 19:
        found = Account.objects.filter(pk=int(wanted)).first()
    if found is None:
        names = ", ".join(Account.objects.values_list("name", flat=True)) or "none yet"
        raise CommandError(f"unknown account {wanted!r}; known: {names}", returncode=2)
    return found


def _moment(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO date or time") from None
