"""Replaying CSV history: exact where it is good, one clear line where it is not."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sandbox.replay import ReplayError, read_history

HEADER = "open_time,open,high,low,close,volume"
FIRST = datetime(2022, 3, 1, tzinfo=UTC)
HOUR_MS = 3_600_000
GONE = (50, 51, 70)


def candle_lines(hours: int = 24 * 12) -> list[str]:
    """A walk with prices of up to four decimals and three hours missing."""
    rng = np.random.default_rng(9)
    lines, price = [HEADER], 350.1234
    for hour in range(hours):
        close = round(price * (1 + rng.normal(0, 0.01)), int(rng.integers(1, 5)))
        high = round(max(price, close) * (1 + rng.random() * 0.01) + 0.0001, 4)
        low = round(min(price, close) * (1 - rng.random() * 0.01) - 0.0001, 4)
        volume = round(float(rng.random()) * 5000, 6) if hour != 80 else 0
        moment = (FIRST + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%M:%SZ")
        if hour not in GONE:
            lines.append(f"{moment},{price!r},{high!r},{low!r},{close!r},{volume!r}")
        price = close
    return lines


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two coins, one listed later, and one macro series."""
    folder = tmp_path_factory.mktemp("history")
    lines = candle_lines()
    (folder / "bitcoin_1h.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    late = [HEADER, *lines[24 * 8 :]]
    (folder / "render-token_1h.csv").write_text("\n".join(late) + "\n")
    days = [FIRST + timedelta(days=number) for number in range(-30, 12)]
    rows = [
        f"{day:%Y-%m-%d},{'' if day.day == 21 else 20 + day.day / 10}"
        for day in days
        if day.weekday() < 5
    ]
    (folder / "VIXCLS.csv").write_text("\n".join(["observation_date,value", *rows]) + "\n")
    (folder / "README.md").write_text("left alone")
    return folder


@pytest.fixture(scope="session")
def world(start: Callable[..., Any], folder: Path) -> Any:
    """The folder replayed from its sixth day on."""
    return start("--replay", str(folder), "--start", "2022-03-06T10:20:00")


def csv_rows(folder: Path) -> dict[int, list[float]]:
    """Open, high, low, close, volume by opening in ms."""
    lines = gzip.decompress((folder / "bitcoin_1h.csv.gz").read_bytes()).decode().splitlines()[1:]
    return {
        int(datetime.fromisoformat(line.split(",")[0]).timestamp() * 1000): [
            float(field) for field in line.split(",")[1:]
        ]
        for line in lines
    }


def test_hours_equal_the_file_and_holes_stay_holes(world: Any, folder: Path) -> None:
    rows = csv_rows(folder)
    served = world.get("/binance/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=1500")
    now_ms = world.get("/binance/fapi/v1/time")["serverTime"]
    closed = {row[0]: [float(text) for text in row[1:6]] for row in served if row[6] < now_ms}
    expected = {ms: row for ms, row in rows.items() if ms + HOUR_MS <= now_ms}
    assert closed == expected
    assert len(served) == len(closed) + 1
    bybit = world.get(
        "/bybit/v5/market/kline?category=linear&symbol=BTCUSDT&interval=60&limit=1000"
    )
    newest_first = [int(row[0]) for row in bybit["result"]["list"]]
    assert newest_first == sorted([row[0] for row in served], reverse=True)


@pytest.mark.parametrize(("interval", "count"), [("1m", 60), ("5m", 12), ("15m", 4), ("30m", 2)])
def test_finer_candles_meet_the_hour(world: Any, folder: Path, interval: str, count: int) -> None:
    rows = csv_rows(folder)
    for hour_ms in list(rows)[100:110]:
        query = f"symbol=BTCUSDT&interval={interval}&startTime={hour_ms}&limit={count}"
        parts = world.get(f"/binance/fapi/v1/klines?{query}")
        opened, high, low, close, volume = rows[hour_ms]
        assert len(parts) == count
        assert float(parts[0][1]) == opened and float(parts[-1][4]) == close
        assert max(float(part[2]) for part in parts) == high
        assert min(float(part[3]) for part in parts) == low
        assert sum(float(part[5]) for part in parts) == pytest.approx(volume, abs=1e-9)


def test_a_coin_does_not_exist_before_its_first_candle(world: Any) -> None:
    symbols = {row["symbol"] for row in world.get("/binance/fapi/v1/exchangeInfo")["symbols"]}
    assert symbols == {"BTCUSDT"}
    status, body, _ = world.call("/binance/fapi/v1/klines?symbol=RENDERUSDT&interval=1h")
    assert (status, body["code"]) == (400, -1121)
    coins = world.get("/coingecko/api/v3/coins/markets?vs_currency=usd")
    assert {row["id"] for row in coins} == {"bitcoin", "tether"}


def test_macro_values_are_those_of_the_file(world: Any) -> None:
    key = "api_key=abcdefghijklmnopqrstuvwxyz123456&file_type=json"
    call = f"/fred/fred/series/observations?series_id=VIXCLS&{key}&output_type=4"
    rows = {row["date"]: row["value"] for row in world.get(call)["observations"]}
    assert rows["2022-02-21"] == "."
    assert rows["2022-03-04"] == "20.4"
    assert max(rows) == "2022-03-04"
    missing = f"/fred/fred/series/observations?series_id=DFF&{key}"
    assert world.call(missing)[:2] == (
        400,
        {"error_code": 400, "error_message": "Bad Request.  The series does not exist."},
    )


GOOD = "2022-03-01T00:00:00Z,2,3,1,2,5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (f"{HEADER}\n", "no rows"),
        ("time,open\n", "line 1"),
        (f"{HEADER}\n{GOOD}\n2022-03-01T01:00:00Z,2,3,1,2\n", "line 3"),
        (f"{HEADER}\n{GOOD}\nyesterday,2,3,1,2,5\n", "line 3"),
        (f"{HEADER}\n{GOOD}\n{GOOD}\n", "line 3.*does not rise"),
        (f"{HEADER}\n2022-03-01T00:30:00Z,2,3,1,2,5\n", "line 2.*whole hour"),
        (f"{HEADER}\n2022-03-01T00:00:00Z,2,3,4,2,5\n", "line 2.*prices"),
        (f"{HEADER}\n2022-03-01T00:00:00Z,2,nan,1,2,5\n", "line 2.*prices"),
        (f"{HEADER}\n2022-03-01T00:00:00Z,2,3,1,2,-5\n", "line 2.*volume"),
        (f"{HEADER}\n2022-03-01T00:00:00Z,2,3,1,x,5\n", "line 2.*'x' is not a number"),
        (f"{HEADER}\n2202-03-01T00:00:00Z,2,3,1,2,5\n", "line 2.*between 2000 and 2100"),
        (f"{HEADER}\n2022-03-01T00:00:00Z,2,3e300,1,2,5\n", "too large"),
    ],
)
def test_a_broken_candle_file_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bitcoin_1h.csv").write_text(text)
    with pytest.raises(ReplayError, match=f"bitcoin_1h.csv.*{said}"):
        read_history(tmp_path)


def test_broken_archives_series_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="nowhere does not exist"):
        read_history(tmp_path / "nowhere")
    with pytest.raises(ReplayError, match="holds no candles"):
        read_history(tmp_path)
    (tmp_path / "bitcoin_1h.csv").mkdir()
    with pytest.raises(ReplayError, match=r"bitcoin_1h\.csv: cannot be read"):
        read_history(tmp_path)
    (tmp_path / "bitcoin_1h.csv").rmdir()
    (tmp_path / "bitcoin_1h.csv").write_text(f"{HEADER}\n{GOOD}\n")
    (tmp_path / "DFF.csv").write_text("observation_date,value\n2022-03-01,1.0\n2022-03-02,abc\n")
    with pytest.raises(ReplayError, match=r"DFF\.csv, line 3"):
        read_history(tmp_path)
    (tmp_path / "DFF.csv").unlink()
    (tmp_path / "ethereum_1h.csv.gz").write_bytes(gzip.compress(b"x" * 99)[:-9])
    with pytest.raises(ReplayError, match=r"ethereum_1h\.csv\.gz: cannot be read"):
        read_history(tmp_path)
