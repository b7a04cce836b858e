"""Strategies over history: all of them in one pass, and how the cost grows with the instruments."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.measures import Measure, in_turns
from collectors.marketdata import to_ms
from signals.consensus import LEAD_BARS, consensus_of, panel_of
from signals.driver import history_start, run_blocks, run_pinned
from signals.indicators import talib
from signals.registry import STRATEGIES, build_strategy
from signals.strategy import Analysis, Market, Strategy

PROJECT = Path(__file__).resolve().parent.parent
HOUR = timedelta(hours=1)
END = datetime(2025, 1, 1, tzinfo=UTC)
THREE_YEARS, ONE_YEAR = datetime(2022, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
# Those that rules name, and any others.
COINS = ("bitcoin", "ethereum", "binancecoin", "ripple")
PASS_COINS, RUNS, MOST_PASS_S = 10, 3, 1.5
SIZES = (10, 100, 1000)
# Seconds per bar and instrument may grow by half where arrays outgrow the caches.
MOST_GROWTH = 1.5
OUTPUTS = ("direction", "confidence", "stop_loss", "take_profit", "position_size")


def hourly_strategies() -> dict[str, Strategy]:
    """All registered strategies that run on hourly bars, as their presets set them."""
    built = {name: build_strategy(name) for name in sorted(STRATEGIES)}
    return {name: strategy for name, strategy in built.items() if strategy.timeframe == "1h"}


def coin_ids(count: int) -> tuple[str, ...]:
    """So many instruments, those that rules need before all others."""
    return (*COINS, *(f"coin-{number}" for number in range(len(COINS), count)))[:count]


def random_market(count: int, start: datetime, end: datetime) -> Market:
    """Random walks that begin early enough for every strategy, with holes and a stepping VIX."""
    strategies = hourly_strategies().values()
    since = min(history_start(start, each.lookback, "1h") for each in strategies)
    bars = (end - since) // HOUR
    rng = np.random.default_rng(count)
    close = rng.standard_normal((bars, count))
    close *= 0.006
    np.cumsum(close, axis=0, out=close)
    np.exp(close, out=close)
    close *= 100.0
    opened = np.vstack([close[:1], close[:-1]])
    reach = rng.random((bars, count)) * 0.003
    volume = rng.lognormal(3.0, 1.0, (bars, count))
    valid = rng.random((bars, count)) > 0.001
    days = np.arange(bars) // 24
    vix = np.maximum(22.0 + 4.0 * rng.standard_normal(int(days[-1]) + 1), 9.0)[days]
    series = {name for each in strategies for name in each.macro_series}
    return Market(
        timeframe="1h",
        instruments=coin_ids(count),
        open_time=to_ms(since) + 3_600_000 * np.arange(bars, dtype=np.int64),
        open=opened,
        high=np.maximum(opened, close) * (1.0 + reach),
        low=np.minimum(opened, close) * (1.0 - reach),
        close=close,
        volume=volume * valid,
        volume_source=valid.astype(np.int8),
        valid=valid,
        macro=dict.fromkeys(series, vix),
        macro_known=dict.fromkeys(series, np.ones(bars, dtype=np.bool_)),
        macro_day=dict.fromkeys(series, to_ms(since) // 86_400_000 - 1 + days),
    )


def measure_pass() -> list[Measure]:
    """Every strategy over 10 instruments x 3 years, beside bare TA-Lib over the same columns. The
    time is the processor's: all of it is one thread that waits for nothing."""
    market = random_market(PASS_COINS, THREE_YEARS, END)
    strategies = hourly_strategies()
    taken: dict[str, list[float]] = {name: [] for name in strategies}
    analyses: dict[str, Analysis] = {}

    def ours() -> None:
        for name, strategy in strategies.items():
            began = time.process_time()
            analyses[name] = run_pinned(strategy, market, start=THREE_YEARS)
            taken[name].append(time.process_time() - began)

    ours()  # warm
    seconds, floor, naive = in_turns(
        RUNS,
        ours,
        lambda: bare_indicators(market),
        lambda: by_pandas(market),
        clock=time.process_time,
    )
    weights = dict.fromkeys(analyses, 1.0)

    def consensus() -> None:
        panel = panel_of(market=market, analyses=analyses, weights=weights)
        consensus_of(panel, panel.returns.shape[1] - LEAD_BARS)

    consensus()  # compiles what is compiled
    (voices,) = in_turns(RUNS, consensus, clock=time.process_time)
    each = ", ".join(f"{name} {sorted(taken[name])[RUNS // 2]:.3f}" for name in strategies)
    told = f"s each: {each}"
    peer = f"two of the rolling windows by pandas, in one piece: {naive:.3f} s"
    cells = f"{len(strategies)} strategies, {PASS_COINS} x 3 years"
    return [
        Measure(f"{cells}, beside the bound", seconds, MOST_PASS_S, "s", 1.0, told),
        Measure("  beside eight bare TA-Lib calls a column", seconds, floor, "s", None, peer),
        Measure("  with their consensus, beside without", seconds + voices, seconds, "s"),
    ]


def bare_indicators(market: Market) -> None:
    """The floor: indicators as rules use them, over each whole column once, nothing checked."""
    vix = np.ascontiguousarray(market.macro["VIXCLS"])
    for column in range(len(market.instruments)):
        high, low, close = (
            np.ascontiguousarray(each[:, column])
            for each in (market.high, market.low, market.close)
        )
        talib.RSI(close, 14)
        talib.ATR(high, low, close, 48)
        talib.MAX(high, 336)
        talib.STDDEV(close, 336)
        for days in (7, 14, 21, 30):
            talib.CORREL(close, vix, days * 24)


def by_pandas(market: Market) -> None:
    """What a notebook does for a correlation and a percentile over 30 days."""
    import pandas as pd

    closes = pd.DataFrame(market.close)
    vix = pd.Series(market.macro["VIXCLS"])
    closes.rolling(720).corr(vix)
    closes.rolling(720).rank()


def measure_growth() -> list[Measure]:
    """10, 100 and 1,000 instruments x 1 year, each in a process of its own, months to disk."""
    found = [_in_process(count) for count in SIZES]
    first = found[0]
    measures = []
    for count, each in zip(SIZES, found, strict=True):
        beside = (
            f"{each['seconds']:.2f} s of a core, {each['written_mib']:.0f} MiB written; memory"
            f" {each['peak_mib']:.0f} MiB at most, {each['input_mib']:.0f} MiB of it the market"
        )
        measures.append(
            Measure(
                f"{count:,} x 1 year, an instrument-bar",
                each["cell_us"], first["cell_us"], "us", MOST_GROWTH, beside,
            )
        )  # fmt: skip
    return measures


def _in_process(count: int) -> Mapping[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.signal_pass", str(count)],
        cwd=PROJECT, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def run_year(count: int) -> dict[str, float]:
    """One size: the strategies' months, written into mapped files as they come."""
    market = random_market(count, ONE_YEAR, END)
    given = [market.open, market.high, market.low, market.close, market.volume]
    given_bytes = sum(each.nbytes for each in (*given, market.valid, market.volume_source))
    rows = (END - ONE_YEAR) // HOUR
    written = 0
    with tempfile.TemporaryDirectory(prefix="signals-") as folder:
        began = time.process_time()
        for name, strategy in hourly_strategies().items():
            blocks = run_blocks(strategy, market, start=ONE_YEAR)
            written += write_blocks(Path(folder) / name, blocks, (rows, count))
        seconds = time.process_time() - began
    return {
        "seconds": seconds,
        "cell_us": seconds / rows / count * 1e6,
        "written_mib": written / 2**20,
        "input_mib": given_bytes / 2**20,
        "peak_mib": peak_kib() / 1024,
    }


def write_blocks(folder: Path, blocks: Iterator[Analysis], shape: tuple[int, int]) -> int:
    """Write a strategy's months into one mapped file for each output; the bytes written. A file
    is mapped for one month only, so that what is written does not count as memory."""
    folder.mkdir()
    row = written = 0
    for block in blocks:
        for name in OUTPUTS:
            values = getattr(block, name)
            path = folder / f"{name}.npy"
            if row == 0:
                np.lib.format.open_memmap(path, "w+", values.dtype, shape)
            mapped = np.lib.format.open_memmap(path, "r+")
            mapped[row : row + len(values)] = values
            written += values.nbytes
        row += len(block.direction)
    return written


def peak_kib() -> int:
    """The most memory that this process has ever held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise OSError("this system does not say how much memory a process has held")


if __name__ == "__main__":
    print(json.dumps(run_year(int(sys.argv[1]))))
