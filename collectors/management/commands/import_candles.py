"""manage.py import_candles: store candles and macro observations from files."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from collectors import services
from collectors.formats import FormatError
from collectors.formats.tables import KINDS, TableFile, find_tables
from collectors.management.options import (
    RowProgress,
    instruments_option,
    series_option,
    span_options,
    timeframe_option,
)


class Command(BaseCommand):
    """All files are read before the first row is stored."""

    help = (
        "Store candles and macro observations from CSV and Parquet files, as export_candles "
        "writes them or as bitcoin_1h.csv and VIXCLS.csv, and from an SQLite database with the "
        "tables crypto_ohlcv and macro_indicators. A row that is there changes nothing, so that "
        "the same command may run again. "
        "Example: manage.py import_candles crypto_data.db --instrument bitcoin"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The files, and which of their rows are taken."""
        parser.add_argument(
            "files", nargs="+", help=".csv, .csv.gz, .parquet, or .db, .sqlite, .sqlite3"
        )
        parser.add_argument("--kind", help=f"one of {', '.join(KINDS)}; by the columns without it")
        parser.add_argument(
            "--instrument",
            action="append",
            default=[],
            help="take only this coin; of files that name none, whose candles they are. "
            "May be given several times",
        )
        parser.add_argument(
            "--series", action="append", default=[], help="take only this macro series"
        )
        parser.add_argument(
            "--timeframe", help="take only this; of files that name none, which it is"
        )
        parser.add_argument("--start", help="ISO 8601, UTC, inclusive")
        parser.add_argument("--end", help="ISO 8601, UTC, exclusive")
        parser.add_argument(
            "--register",
            action="store_true",
            help="make unknown coins and series, disabled, instead of leaving them out",
        )
        parser.add_argument(
            "--trust-volume",
            action="store_true",
            help="the database's volume is that of the bar, not of the last 24 hours",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import; wrong input ends in one line and exit code 2, with nothing stored."""
        start, end = span_options(options["start"], options["end"])
        timeframe = timeframe_option(options["timeframe"])
        if options["kind"] not in {None, *KINDS}:
            known = ", ".join(KINDS)
            raise CommandError(f"unknown kind {options['kind']!r}; known: {known}", returncode=2)
        coins, series = options["instrument"], options["series"]
        if not options["register"]:
            instruments_option(coins)
            series_option(series)
        try:
            tables = [
                self._described(table, options, timeframe)
                for name in options["files"]
                for table in find_tables(Path(name), options["kind"])
            ]
            with RowProgress("import") as on_progress:
                results = services.import_tables(
                    tables=tables,
                    wanted=services.Wanted(
                        coins=frozenset(coins),
                        series=frozenset(series),
                        timeframe=timeframe,
                        start=start,
                        end=end,
                    ),
                    register=options["register"],
                    on_progress=on_progress,
                )
        except FormatError as problem:
            raise CommandError(str(problem), returncode=2) from None
        if options["json"]:
            self.stdout.write(json.dumps([dataclasses.asdict(result) for result in results]))
            return
        for result in results:
            self._show(result)

    def _described(
        self, table: TableFile, options: dict[str, Any], timeframe: str | None
    ) -> TableFile:
        """The table with what the options say of it."""
        coins = options["instrument"]
        return dataclasses.replace(
            table,
            instrument=coins[0] if len(coins) == 1 else None,
            timeframe=timeframe,
            trust_volume=options["trust_volume"],
        )

    def _show(self, result: services.Imported) -> None:
        """One line of figures, and one for what is unknown."""
        figures = {
            name: count
            for name, count in dataclasses.asdict(result).items()
            if isinstance(count, int) and (count or name in {"rows", "inserted"})
        }
        told = ", ".join(f"{count:,} {name}" for name, count in figures.items())
        self.stdout.write(f"{result.file} ({result.kind}): {told}")
        if result.unknown:
            names = ", ".join(f"{name} ({count:,})" for name, count in result.unknown.items())
            self.stdout.write(f"  left out, as unknown here: {names}; --register makes them")
