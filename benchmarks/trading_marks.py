"""What it costs to mark open positions, to look at quotes, and to check large books."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec
from django.db import connection

from benchmarks.measures import Measure, in_turns
from collectors import clock
from collectors.livebook import LiveBook
from collectors.marketdata import Quote
from collectors.models import Instrument, Listing
from collectors.selectors import quote_key, redis_client
from trading.models import Account, Order, Position
from trading.orders import Grid
from trading.services import create_account, live_worths, mark_accounts, reconcile
from trading.simulator import STOP, WorkingOrder
from trading.watch import Watched, WatchTable

ACCOUNTS, INSTRUMENTS, POSITIONS = 10, 500, 1_000
RUNS = 15
SYMBOLS, QUOTES = 100, 100_000
FILLS, TRADED = 100_000, 100

# The same rows and the same values, read and added up by nothing but drivers.
HELD = """
    SELECT a.id, a.cash, a.exchange, i.id, p.quantity_steps, p.total_cost
    FROM trading_position p JOIN trading_account a ON a.id = p.account_id
    JOIN collectors_instrument i ON i.id = p.instrument_id
    WHERE p.quantity_steps <> 0 ORDER BY p.account_id, p.id
"""
LISTED = "SELECT exchange, instrument_id, symbol FROM collectors_listing"


def measure_marks() -> list[Measure]:
    """1,000 open positions of 10 accounts in 500 instruments, all with a fresh book in Redis."""
    _hold()
    ours, floor, whole = in_turns(RUNS, live_worths, _plain_sums, mark_accounts)
    return [
        Measure(
            f"marking {POSITIONS:,} open positions",
            ours * 1e3, floor * 1e3, "ms", 4.0,
            f"with what follows from it {whole * 1e3:.1f} ms; floor: the same rows and quotes",
        )
    ]  # fmt: skip


def measure_watch() -> list[Measure]:
    """A quote that changes nothing, with ten stops on each of 100 symbols."""
    grid = Grid.of("0.1", "0.001")
    table = WatchTable()
    names = [f"C{number}USDT" for number in range(SYMBOLS)]
    table.offer(
        Watched(
            10 * number + stop, "binance", name,
            WorkingOrder(STOP, 1 - 2 * (stop % 2), 10, 0, 1100 - 200 * (stop % 2), 0, 0, False),
            grid.tick_num, grid.tick_den, 0,
        )
        for number, name in enumerate(names)
        for stop in range(10)
    )  # fmt: skip
    now = clock.now()
    quotes = [_quote(names[count % SYMBOLS], 100.0) for count in range(QUOTES)]
    quotes = [msgspec.structs.replace(quote, event_time=now) for quote in quotes]
    zones = {("binance", name): (90.0, 110.0) for name in names}

    def ours() -> None:
        look = table.look
        for quote in quotes:
            look(quote)

    def floor() -> None:
        for quote in quotes:
            low, high = zones[quote.exchange, quote.symbol]
            if not low < quote.best_bid <= quote.best_ask < high:
                raise RuntimeError("no quote leaves its zone")

    taken, plain = in_turns(RUNS, ours, floor)
    told = "floor: one look-up, two comparisons"
    scale = 1e9 / QUOTES
    claim = "looking at a quote that changes nothing"
    return [Measure(claim, taken * scale, plain * scale, "ns", 4.0, told)]


def measure_audit() -> list[Measure]:
    """The reconciliation of one account with 100,000 fills."""
    account = _traded()
    result = reconcile(account_id=account.pk)
    if result.mismatches:
        raise RuntimeError(f"the books of the benchmark do not add up: {result.mismatches[:3]}")
    ours, floor = in_turns(3, lambda: reconcile(account_id=account.pk), _read_fills)
    claim = f"reconciling {FILLS:,} fills"
    return [Measure(claim, ours, floor, "s", None, "floor: the fills and their orders, only read")]


SECTIONS = {"mark": measure_marks, "watch": measure_watch, "audit": measure_audit}


# -- The rows ----------------------------------------------------------------------------------


def _instruments(count: int) -> list[Instrument]:
    made = Instrument.objects.bulk_create(
        Instrument(coin_id=f"coin-{number}", symbol=f"C{number}", name="coin", sector="test")
        for number in range(count)
    )
    Listing.objects.bulk_create(
        Listing(
            instrument=row, exchange="binance", symbol=f"{row.symbol}USDT",
            tick_size="0.1", quantity_step="0.001",
        )
        for row in made
    )  # fmt: skip
    return made


def _quote(symbol: str, price: float) -> Quote:
    now = clock.now()
    return Quote(
        exchange="binance", symbol=symbol, best_bid=price, bid_quantity=1.0,
        best_ask=price + 0.1, ask_quantity=1.0, event_time=now, received_at=now, sequence=1,
    )  # fmt: skip


def _hold() -> None:
    instruments = _instruments(INSTRUMENTS)
    each = POSITIONS // ACCOUNTS
    for number in range(ACCOUNTS):
        account = create_account(name=f"account {number}", initial_capital=Decimal(100_000))
        start = number * each % INSTRUMENTS
        Position.objects.bulk_create(
            Position(
                account=account, instrument=row, quantity_steps=100, total_cost=Decimal(10),
                tick_size="0.1", quantity_step="0.001", entered_at=clock.now(),
            )
            for row in instruments[start : start + each]
        )  # fmt: skip
    # Fresh for as long as this runs.
    later = clock.now() + timedelta(hours=1)
    levels = tuple((100.0 - depth / 10, 1.0) for depth in range(50))
    for row in instruments:
        quote = msgspec.structs.replace(_quote(f"{row.symbol}USDT", 101.0), event_time=later)
        values = msgspec.structs.asdict(quote)
        book = LiveBook(**values, is_synced=True, bids=levels, asks=levels)
        redis_client().set(quote_key("binance", quote.symbol), msgspec.json.encode(book))


def _plain_sums() -> dict[int, float]:
    with connection.cursor() as cursor:
        cursor.execute(HELD)
        held = cursor.fetchall()
        cursor.execute(LISTED)
        symbols = {(exchange, pk): symbol for exchange, pk, symbol in cursor.fetchall()}
    keys = sorted({(exchange, pk) for _, _, exchange, pk, _, _ in held})
    decode = msgspec.json.Decoder(Quote).decode
    raw = redis_client().mget([quote_key(exchange, symbols[exchange, pk]) for exchange, pk in keys])
    quotes = {key: decode(value) for key, value in zip(keys, raw, strict=True)}  # type: ignore
    equity: dict[int, float] = {}
    for account, cash, exchange, pk, quantity, cost in held:
        quote = quotes[exchange, pk]
        middle = (quote.best_bid + quote.best_ask) / 2.0
        equity[account] = equity.get(account, cash) + quantity * middle * 1e5 - cost
    return equity


# Every other fill closes what the one before it has bought in the same instrument, both at 100:
# 10 steps of 0.001 are one unit of money, and the fee of each is five ten-thousandths of that.
TRADES = f"""
WITH made AS (
    INSERT INTO trading_order (account_id, instrument_id, exchange, symbol, key, kind, leg, side,
        quantity_steps, filled_steps, tick_size, quantity_step, is_triggered, time_in_force, oco,
        status, reason, placed_by, at)
    SELECT %(account)s, %(first)s + n %% {TRADED}, 'binance', 'C', '', 'market',
        CASE n / {TRADED} %% 2 WHEN 0 THEN 'open' ELSE 'close' END,
        CASE n / {TRADED} %% 2 WHEN 0 THEN 'buy' ELSE 'sell' END,
        10, 10, '0.1', '0.001', false, 'gtc', '', 'filled', '', '', now()
    FROM generate_series(0, {FILLS} - 1) n ORDER BY n RETURNING id
), filled AS (
    INSERT INTO trading_fill (order_id, account_id, trigger, price_ticks, quantity_steps, liquidity,
        fee, realised_pnl, slippage, slippage_bps, quote, bar_open_time, at, recorded_at)
    SELECT id, %(account)s, 'quote', 1000, 10, 'taker', 50000, 0, 0, 0, '{{}}', now(), now(), now()
    FROM made ORDER BY id RETURNING id
), booked AS (
    INSERT INTO trading_ledgertransaction (account_id, kind, key, fill_id, at, recorded_at)
    SELECT %(account)s, 'fill', 'fill:' || id, id, now(), now() FROM filled RETURNING id
)
INSERT INTO trading_ledgerentry (transaction_id, account_id, book, amount)
SELECT id, %(account)s, book, amount
FROM booked, (VALUES ('cash', -50000), ('fees', 50000)) AS sides (book, amount)
"""
CLOSED = """
INSERT INTO trading_trade (account_id, instrument_id, strategy, direction, quantity, entry_price,
    exit_price, pnl, fees, slippage, funding, entered_at, exited_at, exit_reason, exit_fill_id)
SELECT f.account_id, o.instrument_id, 's', 1, '0.01', 100, 100, 0, 100000, 0, 0, now(), now(),
    'signal', f.id
FROM trading_fill f JOIN trading_order o ON o.id = f.order_id WHERE o.side = 'sell'
"""


def _traded() -> Account:
    account = create_account(name="large", initial_capital=Decimal(1_000_000))
    instruments = _instruments(TRADED)
    first = instruments[0].pk
    with connection.cursor() as cursor:
        cursor.execute(TRADES, {"account": account.pk, "first": first})
        cursor.execute(CLOSED)
        cursor.execute(
            "UPDATE trading_account SET cash = cash - %s WHERE id = %s",
            [50_000 * FILLS, account.pk],
        )
        cursor.execute("ANALYZE")
    Position.objects.bulk_create(
        Position(account=account, instrument=row, tick_size="0.1", quantity_step="0.001")
        for row in instruments
    )
    return account


def _read_fills() -> int:
    rows = Order.objects.values_list(
        "instrument", "side", "tick_size", "quantity_step", "fills__price_ticks",
        "fills__quantity_steps",
    )  # fmt: skip
    return sum(1 for _ in rows.iterator(chunk_size=10_000))
