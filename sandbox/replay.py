"""Reads a folder of CSV history: hourly candles by coin id and daily FRED series.

Files are `<coingecko id>_1h.csv[.gz]` with the header open_time,open,high,low,close,volume and
`<FRED series>.csv` with the header observation_date,value (value empty or "." where missing).
Other files are left alone. Missing hours stay holes.

    ReplayError     the folder or one of its files cannot be replayed; names file and line
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from sandbox.bars import HOUR_MS, HourlyBars, Ints

CANDLE_FILE = re.compile(r"([a-z0-9-]+)_1h\.csv(\.gz)?")
SERIES_FILE = re.compile(r"([A-Z][A-Z0-9]{1,24})\.csv")
CANDLE_HEADER = "open_time,open,high,low,close,volume"
SERIES_HEADER = "observation_date,value"
MOST_DECIMALS = 8
MOST_UNITS = 2.0**62


class ReplayError(Exception):
    """A replay folder that cannot be used: the message names file and line."""


@dataclass(frozen=True)
class History:
    """Hourly bars by coin id, and text values ("." = missing) by date and series."""

    bars: dict[str, HourlyBars]
    series: dict[str, dict[date, str]]

    def hours(self) -> tuple[int, int]:
        """The first hour of any coin and the hour after the last one, since 1970 UTC."""
        bars = self.bars.values()
        return min(coin.first_hour for coin in bars), max(coin.end_hour for coin in bars)

    def has_candles(self, start: int, stop: int) -> bool:
        """Whether any coin has a candle in the hours [start, stop)."""
        return any(coin.between(start, stop)[1].any() for coin in self.bars.values())


def read_history(folder: Path) -> History:
    """Read a replay folder; raises ReplayError for anything that cannot be replayed."""
    try:
        files = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        raise ReplayError(f"replay folder {folder} does not exist or is not a folder") from None
    except OSError as error:
        raise ReplayError(f"replay folder {folder} cannot be read: {error.strerror}") from None
    bars: dict[str, HourlyBars] = {}
    series: dict[str, dict[date, str]] = {}
    for file in files:
        if candles := CANDLE_FILE.fullmatch(file.name):
            if candles[1] in bars:
                raise ReplayError(f"{file}: {candles[1]} is there twice, packed and unpacked")
            bars[candles[1]] = _read_bars(file)
        elif named := SERIES_FILE.fullmatch(file.name):
            series[named[1]] = _read_series(file)
    if not bars:
        raise ReplayError(f"replay folder {folder} holds no candles (<coin id>_1h.csv[.gz])")
    return History(bars, series)


def _rows(file: Path, header: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and fields below the header."""
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ReplayError(f"{file}: cannot be read ({error})") from error
    lines = text.splitlines()
    if not lines:
        raise ReplayError(f"{file}: is empty")
    if lines[0].strip() != header:
        raise ReplayError(f"{file}, line 1: expected the header {header}")
    if len(lines) == 1:
        raise ReplayError(f"{file}: holds no rows below its header")
    width = header.count(",") + 1
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split(",")
        if len(fields) != width:
            raise ReplayError(f"{file}, line {number}: expected {width} fields, got {len(fields)}")
        yield number, fields


def _read_bars(file: Path) -> HourlyBars:
    hours: list[int] = []
    values: list[tuple[float, ...]] = []
    for number, fields in _rows(file, CANDLE_HEADER):
        try:
            hours.append(_hour(fields[0]))
            values.append(_candle(fields[1:]))
            if len(hours) > 1 and hours[-1] <= hours[-2]:
                raise ValueError("open_time does not rise")
        except ValueError as error:
            raise ReplayError(f"{file}, line {number}: {error}") from error
    columns = np.array(values).T
    try:
        prices, price_decimals = _as_integers(columns[:4])
        volumes, volume_decimals = _as_integers(columns[4:])
    except ValueError as error:
        raise ReplayError(f"{file}: {error}") from error
    bars = HourlyBars(hours[0], price_decimals, volume_decimals)
    bars.append(np.zeros((5, hours[-1] - hours[0] + 1), dtype=np.int64))
    bars.present[:] = False
    index = np.array(hours) - hours[0]
    bars.rows[:, index] = np.concatenate([prices, volumes])
    bars.present[index] = True
    return bars


def _hour(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if not 2000 <= moment.year < 2100:
        raise ValueError(f"open_time {text} does not lie between 2000 and 2100")
    hour, rest = divmod(int(moment.timestamp() * 1000), HOUR_MS)
    if rest:
        raise ValueError(f"open_time {text} is not a whole hour")
    return hour


def _candle(fields: list[str]) -> tuple[float, ...]:
    first, high, low, last, volume = map(_number, fields)
    if not (0 < low <= min(first, last) and max(first, last) <= high and math.isfinite(high)):
        raise ValueError("prices are not 0 < low <= open, close <= high")
    if not 0 <= volume < math.inf:
        raise ValueError("volume is not a number of zero or more")
    return first, high, low, last, volume


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _as_integers(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[Ints, int]:
    """The values as integers of the smallest power of ten that gives every float back."""
    for decimals in range(MOST_DECIMALS + 1):
        units = np.rint(values * 10.0**decimals)
        if decimals == MOST_DECIMALS or (units / 10.0**decimals == values).all():
            break
    if units.max() >= MOST_UNITS:
        raise ValueError(f"{values.max():g} is too large beside numbers of {decimals} decimals")
    return units.astype(np.int64), decimals


def _read_series(file: Path) -> dict[date, str]:
    found: dict[date, str] = {}
    for number, (day_text, value) in _rows(file, SERIES_HEADER):
        try:
            day = date.fromisoformat(day_text)
            text = value.strip() or "."
            if text != "." and not math.isfinite(_number(text)):
                raise ValueError(f"value {text} is not a number")
            if found and day <= next(reversed(found)):
                raise ValueError("observation_date does not rise")
        except ValueError as error:
            raise ReplayError(f"{file}, line {number}: {error}") from error
        found[day] = text
    return found
