"""What the candle table should hold after batches were stored, and what histories should say: the
rules by hand, played at random against the database that the environment names."""

import os
import random
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from django.db import transaction

from collectors import clock
from collectors.marketdata import Candle, candle_key
from collectors.models import CandleReplacement, Instrument, Ohlcv, QualityFinding, Series
from collectors.quality import check_candle
from collectors.selectors import candle_history
from collectors.services import store_market
from collectors.services.candles import lock_all_series, raise_revisions

START = datetime(2025, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOURCES = ("binance", "bybit", "coingecko", "elsewhere")
CHAINS = {"bitcoin": ["binance", "bybit", "coingecko"], "tether": ["coingecko"]}
# Of both: an exchange that a chain leaves out still comes before price samples.
RANKING = ("binance", "bybit", "coingecko")
VALUES = ("open", "high", "low", "close", "volume")
FLAGS = ("valid", "sampled", "has_volume")
# As histories call the sources of volumes: of the others nobody knows what theirs are.
CODES = {"binance": 1, "bybit": 2}
Row = tuple[str, datetime]  # coin id, open time


def random_candle(rng: random.Random, hour: int) -> Candle:
    """A candle of few different values, so that some repeat; one in thirty is impossible."""
    low, high = rng.choice((1.0, 1.1, 1.0 / 3)), rng.choice((2.0, 0.1 + 2.2))
    source = rng.choice(SOURCES)
    return Candle(
        open_time=START + hour * HOUR,
        open=rng.choice((low, high)),
        high=high if rng.random() < 29 / 30 else 0.2,
        low=low,
        close=1.5,
        volume=None if source == "coingecko" else rng.choice((0.0, 7.7)),
        source=source,
        is_sampled=source == "coingecko",
        received_at=rng.choice((None, None, START - HOUR, datetime(2035, 1, 1, tzinfo=UTC))),
    )


class Model:
    """The table, the revisions and what was counted, as dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[Row, Candle] = {}
        self.received: dict[Row, datetime | None] = {}
        self.replacements: Counter[tuple[Any, ...]] = Counter()
        self.revisions: dict[str, int] = dict.fromkeys(CHAINS, 0)
        self.rewritten: dict[str, int] = dict.fromkeys(CHAINS, 0)
        self.rejected = 0

    def store(self, candles: dict[str, list[Candle]], now: datetime) -> None:
        """Apply a batch."""
        for coin_id, given in candles.items():
            kept = {}
            for candle in given:
                if check_candle(candle, timeframe="1h", now=now) is None:
                    kept[candle.open_time] = candle
                else:
                    self.rejected += 1
            before = max((at for coin, at in self.rows if coin == coin_id), default=None)
            outcomes = {self._store(coin_id, candle, before) for candle in kept.values()}
            if outcomes & {"appended", "rewritten"}:
                self.revisions[coin_id] += 1
            if "rewritten" in outcomes:
                self.rewritten[coin_id] = self.revisions[coin_id]

    def _store(self, coin_id: str, candle: Candle, before: datetime | None) -> str:
        key = coin_id, candle.open_time
        old = self.rows.get(key)
        if old is not None:
            reason = self._reason(coin_id, old, candle, self.received[key])
            if not reason:
                return "unchanged"
            values = tuple(getattr(old, name) for name in VALUES)
            self.replacements[(*key, values, old.source, candle.source, reason)] += 1
        self.rows[key], self.received[key] = candle, candle.received_at
        is_late = before is not None and candle.open_time < before
        return "rewritten" if old is not None or is_late else "appended"

    @staticmethod
    def _reason(coin_id: str, old: Candle, new: Candle, received: datetime | None) -> str:
        ranks = [RANKING.index(each.source) if each.source in RANKING else 9 for each in (old, new)]
        if ranks[1] < ranks[0]:
            return "better source"
        known = received or clock.wall_now()
        is_older = new.received_at is not None and new.received_at < known
        differs = any(getattr(old, name) != getattr(new, name) for name in VALUES)
        return "correction" if old.source == new.source and differs and not is_older else ""

    def check(self) -> None:
        """The database says the same."""
        table = {
            (row.instrument.coin_id, row.open_time): row
            for row in Ohlcv.objects.select_related("instrument")
        }
        assert table.keys() == self.rows.keys()
        for key, candle in self.rows.items():
            row = table[key]
            for name in (*VALUES, "source", "is_sampled"):
                assert getattr(row, name) == getattr(candle, name), (key, name)
            if candle.received_at is not None:
                assert row.received_at == candle.received_at
            else:
                assert abs(row.received_at - clock.wall_now()) < timedelta(minutes=5)
        recorded = Counter(
            (
                each.candle.instrument.coin_id,
                each.candle.open_time,
                tuple(each.old_values[name] for name in VALUES),
                each.old_source,
                each.new_source,
                each.reason,
            )
            for each in CandleReplacement.objects.select_related("candle__instrument")
        )
        assert recorded == self.replacements
        for coin_id, revision in self.revisions.items():
            series = Series.objects.filter(key=candle_key(coin_id, "1h")).first() or Series()
            assert series.revision == revision
            assert series.rewritten_revision == self.rewritten[coin_id]
        assert sum(QualityFinding.objects.values_list("times", flat=True)) == self.rejected


def on_sqlite(folder: Path, program: str) -> str:
    """Run a program that uses this module's names, on the SQLite database of a data folder."""
    preparation = (
        "import django; django.setup()\n"
        "from django.db import connection\n"
        "from tests.collectors.stored import *\n"
        "assert connection.vendor == 'sqlite'\n"
    )
    environment = {
        **os.environ,
        "DATABASE_URL": "",
        "MTS_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "mts_project.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", preparation + program],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_coins() -> dict[str, Instrument]:
    """The instruments of CHAINS, made or given these chains."""
    for coin_id, chain in CHAINS.items():
        Instrument.objects.update_or_create(
            coin_id=coin_id, defaults={"symbol": coin_id[:3], "source_chain": chain}
        )
    return {each.coin_id: each for each in Instrument.objects.filter(coin_id__in=CHAINS)}


def play(seed: int, *, rounds: int = 6) -> Model:
    """Store random batches, short and long, and compare the table after each."""
    rng = random.Random(seed)
    coins = make_coins()
    model = Model()
    for _ in range(rounds):
        size = rng.choice((1, 3, 60, 700, 700))
        first = rng.choice((-900, -600, rng.randrange(-900, -size)))
        candles = {
            coin_id: [random_candle(rng, rng.randrange(first, first + size)) for _ in range(size)]
            for coin_id in rng.sample(sorted(CHAINS), rng.choice((1, 2)))
        }
        model.store(candles, clock.now())
        store_market(
            timeframe="1h",
            candles={coins[coin_id]: given for coin_id, given in candles.items()},
            expect_new=rng.random() < 0.5,
        )
        model.check()
    return model


def play_histories(seed: int, *, rounds: int = 8) -> None:
    """Insert, correct and delete at random; after each, read histories and compare them with the
    table, bit for bit."""
    rng = random.Random(seed)
    coins = make_coins()
    head = -900
    for _ in range(rounds):
        coin_id = rng.choice(sorted(CHAINS))
        if rng.random() < 0.25:
            delete(coins[coin_id], rng)
        else:
            size = rng.choice((1, 2, 40, 300))
            # Mostly what comes is new and at the end.
            first = head if rng.random() < 0.6 else rng.randrange(-900, head + 1)
            hours = range(first, min(first + size, -1))
            head = max(head, first + size)
            candles = [random_candle(rng, hour) for hour in hours if rng.random() < 0.9]
            store_market(timeframe="1h", candles={coins[coin_id]: candles})
        for _ in range(2):
            start = START + rng.randrange(-950, head + 5) * HOUR
            compare(start, start + rng.choice((1, 3, 500, 2000)) * HOUR)


def delete(instrument: Instrument, rng: random.Random) -> None:
    """Delete some of the instrument's candles, as whoever deletes has to."""
    key = candle_key(instrument.coin_id, "1h")
    with transaction.atomic():
        lock_all_series([key])
        rows = Ohlcv.objects.filter(instrument=instrument, timeframe="1h")
        chosen = [pk for pk in rows.values_list("pk", flat=True) if rng.random() < 0.3]
        Ohlcv.objects.filter(pk__in=chosen).delete()
        raise_revisions(changed=[key], rewritten=[key])


def compare(start: datetime, end: datetime) -> None:
    """The history of [start, end) is what the table's rows say."""
    matrix = candle_history(instruments=["tether", "bitcoin"], timeframe="1h", start=start, end=end)
    expected: dict[str, list[list[Any]]] = {name: [] for name in (*VALUES, *FLAGS, "volume_source")}
    for coin_id in matrix.coin_ids:
        rows = Ohlcv.objects.filter(instrument__coin_id=coin_id, timeframe="1h")
        by_time = {row.open_time: row for row in rows.order_by("open_time")}
        earlier = [row.close for at, row in by_time.items() if at < start]
        within = [row.open for at, row in by_time.items() if start <= at < end]
        carried = earlier[-1] if earlier else within[0] if within else 1.0
        column: dict[str, list[Any]] = {name: [] for name in expected}
        for hour in range((end - start) // HOUR):
            row = by_time.get(start + hour * HOUR)
            for name in VALUES:
                value = carried if row is None else getattr(row, name)
                is_empty = name == "volume" and (row is None or row.volume is None)
                column[name].append(0.0 if is_empty else value)
            column["valid"].append(row is not None)
            column["sampled"].append(row is not None and row.is_sampled)
            column["has_volume"].append(row is not None and row.volume is not None)
            measured = row is not None and row.volume is not None
            column["volume_source"].append(CODES.get(row.source, 0) if measured else 0)
            carried = carried if row is None else row.close
        for name, values in column.items():
            expected[name].append(values)
    for name, columns in expected.items():
        array = getattr(matrix, name)
        wanted = np.array(columns, dtype=array.dtype).T
        assert array.shape == wanted.shape
        assert np.ascontiguousarray(array).tobytes() == np.ascontiguousarray(wanted).tobytes(), name
