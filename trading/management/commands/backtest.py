"""Runs a backtest over the stored candles and prints what came of it."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from signals.strategy import StrategyError
from trading.models import Backtest
from trading.orders import OrderError
from trading.services import create_backtest, run_inline

EXAMPLE = (
    "example: manage.py backtest --strategy consensus --instruments bitcoin,ethereum "
    "--start 2021-01-01 --end 2021-07-01"
)
SHARES = {"total_return", "annualised_return", "volatility", "max_drawdown", "win_rate"}


class Command(BaseCommand):
    """`manage.py backtest`."""

    help = "Run a backtest over the stored candles, store it and print its metrics."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """What to test, and how to answer."""
        parser.epilog = EXAMPLE
        parser.add_argument("--strategy", default="consensus", help="a strategy or `consensus`")
        parser.add_argument("--instruments", required=True, help="CoinGecko ids, comma separated")
        parser.add_argument("--start", required=True, type=_moment, help="ISO date or time, UTC")
        parser.add_argument("--end", required=True, type=_moment, help="ISO date or time, UTC")
        parser.add_argument("--timeframe", default="1h")
        parser.add_argument("--capital", type=_amount, help="default: INITIAL_CAPITAL")
        parser.add_argument("--json", action="store_true", help="print JSON for programs")

    def handle(self, *_: Any, **options: Any) -> None:
        """Run it here; wrong input ends with one line and exit code 2."""
        names = [name.strip() for name in options["instruments"].split(",") if name.strip()]
        try:
            backtest = create_backtest(
                strategy_name=options["strategy"],
                instruments=names,
                timeframe=options["timeframe"],
                start=options["start"],
                end=options["end"],
                initial_capital=options["capital"],
            )
            backtest = run_inline(backtest_id=backtest.pk)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=2) from None
        except (ValueError, OverflowError, StrategyError, OrderError) as error:
            raise CommandError(str(error), returncode=2) from None
        if options["json"]:
            json.dump(_as_json(backtest), self.stdout, indent=2)
            self.stdout.write("")
        else:
            _print_table(backtest, Console(file=sys.stdout))


def _as_json(backtest: Backtest) -> dict[str, Any]:
    return {
        "id": backtest.pk,
        "strategy_name": backtest.strategy_name,
        "instruments": backtest.instruments,
        "timeframe": backtest.timeframe,
        "start_date": backtest.start_date.isoformat(),
        "end_date": backtest.end_date.isoformat(),
        **backtest.metrics,
        "initial_capital": str(backtest.initial_capital),
        "final_value": str(backtest.final_value),
    }


def _print_table(backtest: Backtest, console: Console) -> None:
    title = (
        f"{backtest.strategy_name} on {', '.join(backtest.instruments)}, {backtest.timeframe}, "
        f"{backtest.start_date:%Y-%m-%d} to {backtest.end_date:%Y-%m-%d} (backtest {backtest.pk})"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in backtest.metrics.items():
        if isinstance(value, int | float) or value is None:
            table.add_row(name, _text(name, value))
    for reason, count in backtest.metrics["refusals"].items():
        table.add_row(f"refused: {reason}", str(count))
    console.print(table)


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in SHARES:
        return f"{value:.2%}"
    return str(value) if isinstance(value, int) else f"{value:,.2f}"


def _moment(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO date or time") from None


def _amount(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount") from None
    if not value.is_finite() or value <= 0:
        raise argparse.ArgumentTypeError("the capital must be positive")
    return value
