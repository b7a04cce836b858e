"""The REST side of the four providers: shapes, bounds, errors, limits, faults and counts."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

GECKO, FRED = "/coingecko/api/v3", "/fred/fred"
FAPI, MARKET = "/binance/fapi/v1", "/bybit/v5/market"
KEY = "api_key=abcdefghijklmnopqrstuvwxyz123456&file_type=json"
PRO = "x_cg_pro_api_key=any"
DAY_MS = 86_400_000


def test_two_worlds_of_one_seed_are_equal(
    calm_world: Any, fast_world: Any, start: Callable[..., Any]
) -> None:
    start_ms = int(datetime(2024, 6, 5, 12, 30, tzinfo=UTC).timestamp() * 1000)
    for symbol in ("BTCUSDT", "FETUSDT"):
        query = f"{FAPI}/klines?symbol={symbol}&interval=15m&endTime={start_ms - 1}&limit=1500"
        assert calm_world.get(query) == fast_world.get(query)
    other = start("--seed", "6", "--start", "2024-06-05T12:30:00")
    assert calm_world.get(query) != other.get(query)


def test_binance_klines_are_windows_of_one_series(calm_world: Any) -> None:
    whole = calm_world.get(f"{FAPI}/klines?symbol=ETHUSDT&interval=5m&limit=1000")
    first, last = whole[0][0], whole[-2][0]
    part = calm_world.get(
        f"{FAPI}/klines?symbol=ETHUSDT&interval=5m&startTime={first}&endTime={last}&limit=1500"
    )
    assert part == whole[:-1]
    few = calm_world.get(f"{FAPI}/klines?symbol=ETHUSDT&interval=5m&startTime={first}&limit=7")
    assert few == whole[:7]
    assert all(len(row) == 12 for row in whole)
    assert all(later[0] - earlier[0] == 300_000 for earlier, later in pairwise(whole))
    now_ms = calm_world.get(f"{FAPI}/time")["serverTime"]
    assert whole[-1][0] <= now_ms <= whole[-1][6] + 5000
    future = f"{FAPI}/klines?symbol=ETHUSDT&interval=5m&startTime={now_ms + 10**9}"
    assert calm_world.get(future) == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("klines?symbol=NOPEUSDT&interval=1h", -1121),
        ("klines?interval=1h", -1102),
        ("klines?symbol=BTCUSDT&interval=7m", -1120),
        ("klines?symbol=BTCUSDT&interval=1h&limit=1501", -1130),
        ("klines?symbol=BTCUSDT&interval=1h&startTime=yesterday", -1130),
        ("depth?symbol=BTCUSDT&limit=33", -4021),
    ],
)
def test_binance_refuses_with_its_codes(calm_world: Any, query: str, code: int) -> None:
    status, body, _ = calm_world.call(f"{FAPI}/{query}")
    assert (status, body["code"]) == (400, code)


def test_binance_instruments_premium_and_funding(calm_world: Any) -> None:
    info = calm_world.get(f"{FAPI}/exchangeInfo")
    filters = {row["filterType"]: row for row in info["symbols"][0]["filters"]}
    assert set(filters) == {"PRICE_FILTER", "LOT_SIZE", "MIN_NOTIONAL"}
    premium = calm_world.get(f"{FAPI}/premiumIndex")
    assert {row["symbol"] for row in premium} == {row["symbol"] for row in info["symbols"]}
    assert premium[0]["nextFundingTime"] % (DAY_MS // 3) == 0
    rates = calm_world.get(f"{FAPI}/fundingRate?symbol=BTCUSDT&limit=50")
    assert len(rates) == 50
    assert all(b["fundingTime"] - a["fundingTime"] == DAY_MS // 3 for a, b in pairwise(rates))
    assert all(abs(float(row["fundingRate"])) <= 0.0075 for row in rates)
    again = f"startTime={rates[3]['fundingTime']}&endTime={rates[9]['fundingTime']}"
    assert calm_world.get(f"{FAPI}/fundingRate?symbol=BTCUSDT&{again}") == rates[3:10]
    day = calm_world.get(f"{FAPI}/ticker/24hr?symbol=BTCUSDT")
    assert float(day["lowPrice"]) <= float(day["lastPrice"]) <= float(day["highPrice"])


def test_binance_weight_is_shown_and_enforced(start: Callable[..., Any]) -> None:
    world = start("--speed", "0.001")
    costly = f"{FAPI}/depth?symbol=BTCUSDT&limit=1000"
    used = 0
    for _ in range(120):
        status, _, headers = world.call(costly)
        used += 20
        assert (status, headers["X-MBX-USED-WEIGHT-1M"]) == (200, str(used))
    status, body, headers = world.call(costly)
    assert (status, body["code"]) == (429, -1003)
    assert int(headers["Retry-After"]) >= 1
    asked = world.get("/control/requests")["binance"]
    assert asked["total"] == asked["endpoints"]["fapi/v1/depth"] == 121
    assert asked["limit_violations"] == 1
    for _ in range(30):
        assert world.call(f"{GECKO}/ping")[0] == 200
    status, body, headers = world.call(f"{GECKO}/ping")
    assert (status, body["status"]["error_code"]) == (429, 429)
    assert int(headers["Retry-After"]) >= 1


def test_bybit_answers_in_its_envelope(calm_world: Any) -> None:
    query = "category=linear&symbol=SOLUSDT"
    rows = calm_world.get(f"{MARKET}/kline?{query}&interval=60&limit=30")["result"]["list"]
    stamps = [int(row[0]) for row in rows]
    assert stamps == sorted(stamps, reverse=True) and len(stamps) == 30
    window = f"start={stamps[10]}&end={stamps[5]}"
    part = calm_world.get(f"{MARKET}/kline?{query}&interval=60&{window}")["result"]["list"]
    assert part == rows[5:11]
    daily = calm_world.get(f"{MARKET}/kline?{query}&interval=D&limit=5")["result"]["list"]
    assert all(int(row[0]) % DAY_MS == 0 for row in daily)
    book = calm_world.get(f"{MARKET}/orderbook?{query}&limit=50")["result"]
    assert len(book["b"]) == len(book["a"]) == 50
    (ticker,) = calm_world.get(f"{MARKET}/tickers?{query}")["result"]["list"]
    assert float(ticker["bid1Price"]) < float(ticker["ask1Price"])
    history = calm_world.get(f"{MARKET}/funding/history?{query}&limit=9")["result"]["list"]
    assert len(history) == 9
    (row,) = calm_world.get(f"{MARKET}/instruments-info?{query}")["result"]["list"]
    assert row["priceFilter"]["tickSize"] == "0.001" and row["fundingInterval"] == 480
    status, body, _ = calm_world.call(f"{MARKET}/kline?category=linear&symbol=NOPE&interval=60")
    assert (status, body["retCode"]) == (200, 10001)
    status, body, _ = calm_world.call(f"{MARKET}/kline?{query}&interval=7")
    assert (status, body["retCode"]) == (200, 10001)


def test_coingecko_granularity_follows_days(calm_world: Any) -> None:
    for days, step_ms in ((1, 300_000), (30, 3_600_000), (90, 3_600_000), (180, DAY_MS)):
        call = f"{GECKO}/coins/bitcoin/market_chart?vs_currency=usd&days={days}&{PRO}"
        chart = calm_world.get(call)
        stamps = [point[0] for point in chart["prices"]]
        steps = sorted(later - earlier for earlier, later in pairwise(stamps[:-1]))
        assert abs(steps[len(steps) // 2] - step_ms) < step_ms * 0.2
        assert len(stamps) == pytest.approx(days * DAY_MS / step_ms, abs=3)
        for name in ("market_caps", "total_volumes"):
            assert [point[0] for point in chart[name]] == stamps
    volumes = [point[1] for point in chart["total_volumes"]]
    assert min(volumes) > 0


def test_coingecko_samples_a_past_day_hourly(calm_world: Any) -> None:
    now = calm_world.get(f"{FAPI}/time")["serverTime"] // 1000
    day = f"{GECKO}/coins/bitcoin/market_chart/range?vs_currency=usd&from={{}}&to={{}}&{PRO}"
    past = calm_world.get(day.format(now - 3 * 86400, now - 2 * 86400))["prices"]
    last = calm_world.get(day.format(now - 80000, now))["prices"]
    assert 24 <= len(past) <= 26
    assert len(last) > 250


def test_coingecko_ohlc_is_stamped_at_its_end(calm_world: Any) -> None:
    now_ms = calm_world.get(f"{FAPI}/time")["serverTime"]
    for days, step_ms in ((1, 1_800_000), (14, 4 * 3_600_000), (90, 4 * DAY_MS)):
        bars = calm_world.get(f"{GECKO}/coins/ripple/ohlc?vs_currency=usd&days={days}&{PRO}")
        assert bars[-1][0] >= now_ms > bars[-2][0] - 5000
        assert all(later[0] - earlier[0] == step_ms for earlier, later in pairwise(bars))
        assert all(low <= min(o, c) <= max(o, c) <= high for _, o, high, low, c in bars)


def test_coingecko_markets_and_errors(calm_world: Any) -> None:
    call = f"{GECKO}/coins/markets?vs_currency=usd&ids=bitcoin,nope,tether&{PRO}"
    rows = calm_world.get(call)
    assert [row["id"] for row in rows] == ["bitcoin", "tether"]
    assert rows[1]["current_price"] == pytest.approx(1, abs=0.002)
    paged = calm_world.get(f"{GECKO}/coins/markets?vs_currency=usd&per_page=4&page=2&{PRO}")
    assert [row["market_cap_rank"] for row in paged] == [5, 6, 7, 8]
    for path, status, body in (
        ("coins/markets", 422, {"error": "Missing parameter vs_currency"}),
        ("coins/nope/market_chart", 404, {"error": "coin not found"}),
        ("coins/bitcoin/ohlc", 500, {"status": 500, "error": "Internal Server Error"}),
    ):
        assert calm_world.call(f"{GECKO}/{path}")[:2] == (status, body)
    far = f"{GECKO}/coins/bitcoin/market_chart?vs_currency=usd&days=730"
    status, body, _ = calm_world.call(far)
    assert (status, body["error"]["status"]["error_code"]) == (401, 10012)
    assert calm_world.call(f"{far}&{PRO}")[0] == 200


def observations(world: Any, query: str) -> list[dict[str, str]]:
    """Rows of a FRED call."""
    return list(world.get(f"{FRED}/series/observations?{KEY}&{query}")["observations"])


def test_fred_shows_no_vintage_from_the_future(fast_world: Any) -> None:
    always = "realtime_start=1776-07-04&realtime_end=9999-12-31"
    for series in ("VIXCLS", "DFF", "DGS10", "SOFR", "RRPONTSYD"):
        rows = observations(fast_world, f"series_id={series}&{always}")
        now = fast_world.get("/control/world")["market_time"]
        assert rows and all(row["realtime_start"] <= now[:10] for row in rows)
        assert all(row["date"] <= row["realtime_start"] for row in rows)
    plain = observations(fast_world, "series_id=VIXCLS")
    assert len({row["realtime_start"] for row in plain}) == 1
    assert all(row["realtime_start"] == row["realtime_end"] for row in plain)


def test_fred_vintages_follow_each_other(calm_world: Any) -> None:
    always = "realtime_start=1776-07-04&realtime_end=9999-12-31"
    rows = observations(calm_world, f"series_id=DGS10&{always}")
    firsts = observations(calm_world, "series_id=DGS10&output_type=4")
    revised = [(a, b) for a, b in pairwise(rows) if a["date"] == b["date"]]
    assert len(rows) == len(firsts) + len(revised)
    assert 0 < len(revised) < len(rows) / 10
    for earlier, later in revised:
        assert earlier["value"] != later["value"]
        assert earlier["realtime_end"] < later["realtime_start"]
        assert later["realtime_end"] == "9999-12-31"
        assert earlier in firsts
    assert "." in {row["value"] for row in rows}
    earlier, later = revised[0]
    between = f"realtime_start={earlier['realtime_end']}&realtime_end={earlier['realtime_end']}"
    known = observations(calm_world, f"series_id=DGS10&{between}&observation_start=2023-01-01")
    assert {row["date"]: row["value"] for row in known}[earlier["date"]] == earlier["value"]
    span = f"observation_start={earlier['date']}&observation_end={earlier['date']}"
    (wide,) = observations(calm_world, f"series_id=DGS10&output_type=2&{always}&{span}")
    assert set(wide.values()) == {earlier["date"], earlier["value"], later["value"]}
    page = observations(calm_world, "series_id=DGS10&limit=3&offset=2&sort_order=desc")
    plain = observations(calm_world, "series_id=DGS10")
    assert page == plain[::-1][2:5]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("series_id=VIXCLS&file_type=json", "api_key is not set"),
        ("series_id=VIXCLS&file_type=json&api_key=short", "32 character"),
        (KEY, "series_id has not been set"),
        (f"{KEY}&series_id=NO_SUCH", "alphanumeric"),
        (f"{KEY}&series_id=NOSUCH", "The series does not exist."),
        (f"{KEY}&series_id=VIXCLS&observation_start=soon", "observation_start"),
        (f"{KEY}&series_id=VIXCLS&realtime_start=2030-01-01", "realtime_start"),
        (f"{KEY}&series_id=VIXCLS&limit=0", "limit"),
    ],
)
def test_fred_refuses_with_its_message(calm_world: Any, query: str, said: str) -> None:
    status, body, _ = calm_world.call(f"{FRED}/series/observations?{query}")
    assert (status, body["error_code"]) == (400, 400)
    assert said in body["error_message"]


def test_faults_of_calls(calm_world: Any, faults: Callable[[object], None]) -> None:
    path = f"{FAPI}/time"
    faults({"binance": {"rate_limit": {"retry_after": 7, "next": 2, "endpoint": "time"}}})
    assert calm_world.call(f"{FAPI}/ping")[0] == 200
    for _ in range(2):
        status, body, headers = calm_world.call(path)
        assert (status, body["code"], headers["Retry-After"]) == (429, -1003, "7")
    assert calm_world.call(path)[0] == 200
    faults({"bybit": {"rate_limit": True}})
    for _ in range(3):
        status, body, _ = calm_world.call(f"{MARKET}/time")
        assert (status, body["retCode"]) == (200, 10006)
    faults({"bybit": {"rate_limit": False}, "fred": {"server_error": {"status": 502}}})
    assert calm_world.get(f"{MARKET}/time")["retCode"] == 0
    assert calm_world.call(f"{FRED}/series")[0] == 502
    faults({"coingecko": {"malformed": {"next": 1}}})
    assert isinstance(calm_world.call(f"{GECKO}/ping")[1], str)
    began = time.monotonic()
    faults({"binance": {"timeout": {"seconds": 0.4, "next": 1}}})
    assert calm_world.call(path)[0] == 504
    assert time.monotonic() - began >= 0.4
    calm_world.call("/control/faults", "DELETE")
    assert calm_world.get("/control/faults") == {}


@pytest.mark.parametrize(
    "wanted",
    [
        [],
        {"kraken": {"outage": True}},
        {"binance": {"gremlins": True}},
        {"binance": {"outage": {"next": 1}}},
        {"binance": {"ws_drop": {"probability": 2}}},
        {"binance": {"ws_drop": {"next": 0}}},
        {"binance": {"rate_limit": "often"}},
    ],
)
def test_faults_not_understood_change_nothing(
    calm_world: Any, faults: Callable[[object], None], wanted: object
) -> None:
    faults({"fred": {"server_error": {"next": 5}}})
    before = calm_world.get("/control/faults")
    status, body, _ = calm_world.call("/control/faults", "POST", wanted)
    assert status == 400 and body["error"]
    assert calm_world.get("/control/faults") == before
