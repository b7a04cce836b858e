"""What the candle table should hold after batches were stored: the rules of replacement, by hand.

Also a program: `python -c "from tests.collectors import stored; stored.play(seed)"` plays random
batches against the database that the environment names.
"""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from collectors import clock
from collectors.marketdata import Candle, candle_key
from collectors.models import CandleReplacement, Instrument, Ohlcv, QualityFinding, Series
from collectors.quality import check_candle
from collectors.services import store_market

START = datetime(2025, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOURCES = ("binance", "bybit", "coingecko", "elsewhere")
CHAINS = {"bitcoin": ["binance", "bybit", "coingecko"], "tether": ["coingecko"]}
VALUES = ("open", "high", "low", "close", "volume")
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
        chain = CHAINS[coin_id]
        ranks = [chain.index(each.source) if each.source in chain else 9 for each in (old, new)]
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


def play(seed: int, *, rounds: int = 6) -> Model:
    """Store random batches, short and long, and compare the table after each."""
    rng = random.Random(seed)
    for coin_id, chain in CHAINS.items():
        Instrument.objects.update_or_create(
            coin_id=coin_id, defaults={"symbol": coin_id[:3], "source_chain": chain}
        )
    coins = {each.coin_id: each for each in Instrument.objects.filter(coin_id__in=CHAINS)}
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
