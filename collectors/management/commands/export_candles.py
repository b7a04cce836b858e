"""manage.py export_candles: write stored candles or macro observations to a file."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from collectors import clock, services
from collectors.formats import FormatError
from collectors.formats.tables import KINDS
from collectors.management.options import (
    RowProgress,
    instruments_option,
    series_option,
    span_options,
    timeframe_option,
)


class Command(BaseCommand):
    """One file, its format by its suffix, never over another."""

    help = (
        "Write stored candles (or macro observations, with every vintage) to a CSV or Parquet "
        "file, from which import_candles reads the same rows. "
        "Example: manage.py export_candles --instrument bitcoin --timeframe 1h "
        "--start 2025-01-01 --output bitcoin.parquet"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What is written, and where to."""
        parser.add_argument("--kind", default="candles", help=f"one of {', '.join(KINDS)}")
        parser.add_argument(
            "--instrument",
            action="append",
            default=[],
            help="CoinGecko id, such as bitcoin; may be given several times, all without it",
        )
        parser.add_argument(
            "--series",
            action="append",
            default=[],
            help="macro series, such as VIXCLS; may be given several times, all without it",
        )
        parser.add_argument("--timeframe", help="such as 1h; all without it")
        parser.add_argument("--start", help="ISO 8601, UTC, inclusive")
        parser.add_argument("--end", help="ISO 8601, UTC, exclusive")
        parser.add_argument(
            "--output",
            help="a .csv, .csv.gz or .parquet file; where it exists, _2 is put before the suffix. "
            "Below MTS_DATA_DIR/exports/ without it",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Export; wrong input ends in one line and exit code 2."""
        kind = options["kind"]
        if kind not in KINDS:
            raise CommandError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}", returncode=2)
        start, end = span_options(options["start"], options["end"])
        timeframe = timeframe_option(options["timeframe"])
        instruments = instruments_option(options["instrument"])
        series = series_option(options["series"])
        path = Path(options["output"] or self._default_path(kind))
        try:
            with RowProgress(f"export {kind}") as on_progress:
                if kind == "macro":
                    result = services.export_macro(
                        path=path, series=series, start=start, end=end, on_progress=on_progress
                    )
                else:
                    result = services.export_candles(
                        path=path,
                        instruments=instruments,
                        timeframe=timeframe,
                        start=start,
                        end=end,
                        on_progress=on_progress,
                    )
        except FormatError as problem:
            raise CommandError(str(problem), returncode=2) from None
        except OSError as problem:
            reason = problem.strerror or problem
            raise CommandError(f"{path}: cannot be written ({reason})", returncode=2) from None
        if options["json"]:
            self.stdout.write(json.dumps(asdict(result)))
        else:
            self.stdout.write(f"{result.file}: {result.rows:,} rows")

    def _default_path(self, kind: str) -> Path:
        folder: Path = settings.DATA_DIR / "exports"
        return folder / f"{kind}_{clock.now():%Y%m%d_%H%M%S}.parquet"
