"""A year of real candles traded on paper at high speed, through the product's own services.

    python -m benchmarks.paper_year DIR --start 2021-06-01 --days 365 --reports OUT

DIR holds `<coingecko id>_1h.csv[.gz]` and `<FRED series>.csv`. The strategies are computed once
over the whole history, as a backtest does; then every hour is played: its bar run with its signals
is written, quotes stand at the next bar's open, and each account works off what is due. The
accounts: the consensus at the defaults; momentum with forty times the usual size, so that drawdown
and daily loss trip; one in which a person orders by hand beyond what risk grants; and for some
weeks one for each limit, narrow. What trips is reset at the next midnight by a scripted person,
with the reason. In the end every account must reconcile, every limit must have refused and warned,
and both losses tripped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.measures import own_servers
from benchmarks.paper_tables import show_year

HOUR = timedelta(hours=1)
AFTER_CLOSE = timedelta(seconds=2)
HALF_SPREAD_BPS = 1.0
SCRIPT = "the year's script"
# Each in an account of its own, so narrow that it is met within weeks.
NARROW = {
    "max_single_asset": 0.012,
    "max_sector": 0.03,
    "max_portfolio_risk": 0.004,
    "max_leverage": 0.06,
    "max_open_positions": 2,
    "max_correlation": 0.6,
    "max_volatility": 0.04,
    "min_liquidity": 50_000_000.0,
    "max_stop_distance": 0.04,
}
NARROW_DAYS = 20
WIDE = {
    "max_position_size": 0.9,
    "max_single_asset": 0.95,
    "max_sector": 5.0,
    "max_portfolio_risk": 1.0,
    "max_leverage": 5.0,
    "max_correlation": 1.0,
    "base_size": 0.8,
    "volatility_target": 1.0,
}
# Name, what it follows, its limits. "deep" may lose much in a day, so that drawdown trips first.
ACCOUNTS: tuple[tuple[str, list[str], dict[str, float]], ...] = (
    ("default", ["consensus"], {}),
    ("wide", ["momentum"], WIDE),
    ("deep", ["momentum"], {**WIDE, "max_daily_loss": 0.9, "max_drawdown": 0.15}),
    ("by hand", [], {}),
    *((f"narrow {name}", ["consensus"], {name: value}) for name, value in NARROW.items()),
)
# A size is cut to the cap and an order beyond it refused, so nothing is ever judged above it.
REASONS = {"max_leverage": "buying_power", "max_position_size": "larger_than_granted"}


def main() -> int:
    """Play the year and print what the rows say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", type=_day, default="2021-06-01")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--reports", type=Path, default=None, help="a folder for the reports")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    with own_servers():
        year = Year(given.folder, given.start, given.days)
        result = year.play()
        if given.reports is not None:
            result["reports"] = year.write_reports(given.reports)
    if given.json:
        print(json.dumps(result))
    else:
        show_year(result)
    return 0 if result["is_kept"] else 1


class Year:
    """The market, the accounts and the script of one year."""

    def __init__(self, folder: Path, start: datetime, days: int) -> None:
        self._folder = folder
        self._start = start
        self._end = start + timedelta(days=days)
        self._accounts: dict[str, int] = {}
        self._resets: list[dict[str, Any]] = []
        self._listings: dict[str, Any] = {}

    def play(self) -> dict[str, Any]:
        """Import, compute, trade, check."""
        began = time.perf_counter()
        self._import()
        imported = time.perf_counter()
        self._analyse()
        analysed = time.perf_counter()
        self._open_accounts()
        for bar in track(self._bars(), "hours", total=len(self._opened)):
            self._play_bar(bar)
        traded = time.perf_counter()
        return {
            "hours": len(self._opened),
            "seconds": {
                "import": round(imported - began, 1),
                "strategies": round(analysed - imported, 1),
                "trading": round(traded - analysed, 1),
            },
            **self._evidence(),
        }

    def write_reports(self, folder: Path) -> list[str]:
        """The reports of all accounts, copied into a folder."""
        from trading.services import write_report

        folder.mkdir(parents=True, exist_ok=True)
        names = []
        for account_id in self._accounts.values():
            written = write_report(account_id=account_id)
            for path in (written.html, written.json):
                (folder / path.name).write_bytes(path.read_bytes())
                names.append(path.name)
        return names

    def _import(self) -> None:
        from django.core.management import call_command

        from collectors import clock
        from collectors.models import Instrument, Ohlcv
        from mts_project.seeding import seed_everything
        from signals.models import StrategyConfig

        clock.configure(clock.MarketClock(start=self._end, anchor=clock.wall_now(), speed=0.001))
        seed_everything()
        files = sorted(str(path) for path in self._folder.glob("*.csv*"))
        call_command("import_candles", *files, verbosity=0)
        Ohlcv.objects.filter(open_time__gte=self._end + HOUR).delete()
        StrategyConfig.objects.update(is_enabled=True)
        stored = Ohlcv.objects.order_by().values_list("instrument__coin_id").distinct()
        self._coins = sorted(row[0] for row in stored)
        self._instruments = {
            row.coin_id: row for row in Instrument.objects.filter(coin_id__in=self._coins)
        }

    def _analyse(self) -> None:
        """What each followed strategy says at every bar, and where that changes."""
        from signals.selectors import analyse_history
        from trading.tape import changed_rows

        self._says = {}
        for name in ("consensus", "momentum"):
            run = analyse_history(
                strategy_name=name,
                coin_ids=self._coins,
                timeframe="1h",
                start=self._start - HOUR,
                end=self._end,
            )
            changed = changed_rows(run.analysis.direction, run.analysis.stop_loss)
            self._says[name] = (run.analysis, changed)
            self._market = run.market
        self._opened = [int(value) for value in self._market.open_time[1:-1]]

    def _open_accounts(self) -> None:
        from risk.services import change_limit
        from trading.models import Account
        from trading.services import create_account

        Account.objects.update(is_active=False)  # the seeded one
        for name, follows, limits in ACCOUNTS:
            account = create_account(
                name=name,
                initial_capital=Decimal(10_000),
                subscriptions=follows,
                at=self._start,
            )
            self._accounts[name] = account.pk
            profile = Account.objects.get(pk=account.pk).profile_id
            for limit, value in limits.items():
                change_limit(
                    profile_id=profile, name=limit, value=value, by=SCRIPT, reason="the script"
                )

    def _bars(self) -> Iterator[int]:
        """Indices into the market's rows; the first row is only what came before."""
        return iter(range(1, len(self._opened) + 1))

    def _play_bar(self, index: int) -> None:
        from collectors import clock
        from collectors.marketdata import from_ms
        from trading.selectors import accounts_at_work
        from trading.services import advance_account, work_account

        bar = from_ms(int(self._market.open_time[index]))
        now = bar + HOUR + AFTER_CLOSE
        clock.configure(clock.MarketClock(start=now, anchor=clock.wall_now(), speed=0.001))
        self._write_run(bar, index)
        self._set_quotes(now, index)
        if now.hour == 0:
            self._reset_what_tripped(now)
        if index == NARROW_DAYS * 24:
            self._switch_off_the_narrow()
        for account_id in accounts_at_work():
            advance_account(account_id=account_id)
        # An order takes its latency to the venue, and meets the next quote.
        work_account(account_id=self._accounts["by hand"])
        if index % 500 == 0:
            self._order_by_hand(index)

    def _write_run(self, bar: datetime, index: int) -> None:
        from signals.models import BarRun, RunState, Signal

        run = BarRun.objects.create(
            timeframe="1h", bar_open_time=bar, state=RunState.DONE, started_at=bar, finished_at=bar
        )
        rows = []
        for name, (analysis, changed) in self._says.items():
            for column, coin_id in enumerate(self._market.instruments):
                if not changed[index, column]:
                    continue
                rows.append(
                    Signal(
                        strategy=name,
                        instrument=self._instruments[coin_id],
                        timeframe="1h",
                        bar_open_time=bar,
                        at=bar + HOUR,
                        direction=int(analysis.direction[index, column]),
                        confidence=float(analysis.confidence[index, column]),
                        price=float(self._market.close[index, column]),
                        stop_loss=_or_none(analysis.stop_loss[index, column]),
                        take_profit=_or_none(analysis.take_profit[index, column]),
                        position_size=(
                            None
                            if name == "momentum"
                            else _or_none(analysis.position_size[index, column])
                        ),
                        expires_at=bar + 2 * HOUR,
                        run=run,
                        created_at=bar,
                    )
                )
        Signal.objects.bulk_create(rows)

    def _set_quotes(self, now: datetime, index: int) -> None:
        """The next bar's open, to within a basis point; none where the next bar is a hole."""
        import msgspec

        from collectors.marketdata import Quote
        from collectors.selectors import listing_for
        from collectors.selectors.live import quote_key, redis_client

        with redis_client().pipeline(transaction=False) as pipeline:
            for column, coin_id in enumerate(self._market.instruments):
                listing = self._listings.get(coin_id)
                if listing is None:
                    listing = listing_for(
                        instrument=self._instruments[coin_id], exchange="binance", at=now
                    )
                    self._listings[coin_id] = listing
                if listing is None:
                    continue
                key = quote_key("binance", listing.symbol)
                if not self._market.valid[index + 1, column]:
                    pipeline.delete(key)
                    continue
                price = float(self._market.open[index + 1, column])
                half = price * HALF_SPREAD_BPS / 10_000.0
                quote = Quote(
                    exchange="binance",
                    symbol=listing.symbol,
                    best_bid=price - half,
                    bid_quantity=1e6,
                    best_ask=price + half,
                    ask_quantity=1e6,
                    event_time=now,
                    received_at=datetime.now(UTC),
                    sequence=index,
                )
                pipeline.set(key, msgspec.json.encode(quote))
            pipeline.execute()

    def _reset_what_tripped(self, now: datetime) -> None:
        """A person looks at what is halted each midnight, and says why it goes on."""
        from trading.models import Account
        from trading.services import set_trading_state

        halted = Account.objects.filter(profile__trading_state="halted").select_related("profile")
        for account in halted:
            why = f"seen and accepted: {account.profile.state_reason}"[:200]
            set_trading_state(account_id=account.pk, state="active", reason=why, by=SCRIPT)
            self._resets.append({"account": account.name, "at": now.isoformat(), "reason": why})

    def _switch_off_the_narrow(self) -> None:
        """They have shown what they were for; what they hold is protected to its end."""
        from trading.services import update_account

        for name, account_id in self._accounts.items():
            if name.startswith("narrow"):
                update_account(account_id=account_id, is_active=False)

    def _order_by_hand(self, index: int) -> None:
        """Within what risk grants, and far beyond it."""
        from trading.services import HandOrder, flatten, place_hand_order

        account_id = self._accounts["by hand"]
        sizes = (("bitcoin", "150"), ("bitcoin", "1500"))
        for coin_id, notional in sizes:
            place_hand_order(
                account_id=account_id,
                asked=HandOrder(
                    coin_id=coin_id, side=1, notional=Decimal(notional), placed_by=SCRIPT
                ),
            )
        if index % 1_000 == 0:
            flatten(account_id=account_id, by=SCRIPT)

    def _evidence(self) -> dict[str, Any]:
        from risk.declarations import DECLARATIONS
        from risk.models import RiskDecision, TradingStateChange
        from trading.models import Account, Fill, Trade
        from trading.services import reconcile
        from trading.track_record import account_performance

        refused: Counter[str] = Counter(
            RiskDecision.objects.exclude(rejection_reason="").values_list(
                "rejection_reason", flat=True
            )
        )
        warned: Counter[str] = Counter()
        for lines in RiskDecision.objects.values_list("warnings", flat=True):
            warned.update(line.split(":")[0] for line in lines)
        tripped = Counter(TradingStateChange.objects.values_list("cause", flat=True))
        limits = [each.name for each in DECLARATIONS if each.usage]
        accounts = {}
        mismatches: list[str] = []
        for name, account_id in self._accounts.items():
            mismatches += reconcile(account_id=account_id).mismatches
            figures = account_performance(account_id=account_id)
            accounts[name] = {
                "fills": Fill.objects.filter(account=account_id).count(),
                "trades": Trade.objects.filter(account=account_id).count(),
                "cash": str(Account.objects.get(pk=account_id).cash),
                **{key: figures[key] for key in ("total_return", "sharpe_ratio", "max_drawdown")},
            }
        return {
            "accounts": accounts,
            "limits": {
                name: {"refused": refused[REASONS.get(name, name)], "warned": warned[name]}
                for name in limits
            },
            "refused": dict(refused.most_common()),
            "tripped": dict(tripped),
            "resets": self._resets,
            "mismatches": mismatches,
            "is_kept": not mismatches
            and all(refused[REASONS.get(name, name)] and warned[name] for name in limits)
            and tripped["drawdown"] > 0
            and tripped["daily_loss"] > 0,
        }


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _or_none(value: float) -> float | None:
    return None if value != value else float(value)


if __name__ == "__main__":
    raise SystemExit(main())
