"""Bybit v5 REST: the public market calls of the linear and the spot category below `/v5/market`.

Shapes and codes follow bybit-exchange.github.io/docs/v5: errors are HTTP 200 with a retCode,
numbers and times are text, klines come newest first with the open one included.
"""

from collections.abc import Callable

from sandbox.bars import HOUR_MS
from sandbox.binance import kline_extras, level_texts, mark_prices
from sandbox.books import STALE_IDS
from sandbox.figures import decimal_text
from sandbox.limits import CallWindow
from sandbox.path import MINUTE_MS, Candle
from sandbox.replies import Call, Params, Reply, json_reply
from sandbox.world import Coin, World

CALL_LIMIT, LIMIT_MS = 600, 5000
INTERVALS = {
    "1": 1,
    "3": 3,
    "5": 5,
    "15": 15,
    "30": 30,
    "60": 60,
    "120": 120,
    "240": 240,
    "360": 360,
    "720": 720,
    "D": 1440,
}
PARAMETER_ERROR, RATE_ERROR = 10001, 10006


class _Refused(Exception):
    """A call that Bybit answers with a parameter error and this message."""


class Bybit:
    """Answers calls below `/bybit`."""

    name = "bybit"

    def __init__(self, world: World) -> None:
        self._world = world
        self._window = CallWindow(CALL_LIMIT, LIMIT_MS)
        self._routes: dict[str, Callable[[Call], object]] = {
            "time": _time,
            "kline": self._klines,
            "orderbook": self._orderbook,
            "tickers": self._tickers,
            "funding/history": self._funding_history,
            "instruments-info": self._instruments,
        }

    def endpoint(self, path: str) -> str:
        """The name a path is counted under."""
        return path

    def over_limit(self, call: Call) -> Reply | None:
        """Count the call; the refusal when it is one too many in these five seconds."""
        if self._window.spend(call.now_ms, 1):
            return None
        return self.rate_limited(self._window.retry_after(call.now_ms, self._world.clock.speed))

    def rate_limited(self, retry_after: int) -> Reply:
        """The answer to a call above the limit: HTTP 200 with its own code."""
        now_ms = self._world.clock.now_ms()
        headers = {
            "X-Bapi-Limit": str(CALL_LIMIT),
            "X-Bapi-Limit-Status": "0",
            "X-Bapi-Limit-Reset-Timestamp": str(now_ms + retry_after * 1000),
            "Retry-After": str(retry_after),
        }
        text = "Too many visits. Exceeded the API Rate Limit."
        return json_reply(_envelope(now_ms, {}, RATE_ERROR, text), 200, headers)

    def answer(self, call: Call) -> Reply:
        """The answer to one call."""
        route = self._routes.get(call.path.removeprefix("v5/market/"))
        if route is None or not call.path.startswith("v5/market/"):
            return Reply(404, b"404 page not found", content_type="text/plain")
        try:
            return json_reply(_envelope(call.now_ms, route(call)))
        except _Refused as refused:
            return json_reply(_envelope(call.now_ms, {}, PARAMETER_ERROR, str(refused)))

    def _coin(self, call: Call) -> Coin:
        venue = _venue(call.params)
        coin = self._world.by_symbol(venue, call.params.get("symbol", ""), call.now_ms)
        if coin is None:
            raise _Refused("Not supported symbols")
        return coin

    def _chosen(self, call: Call) -> list[Coin]:
        if "symbol" in call.params:
            return [self._coin(call)]
        return self._world.tradable(_venue(call.params), call.now_ms)

    def _klines(self, call: Call) -> object:
        coin = self._coin(call)
        minutes = INTERVALS.get(call.params.get("interval", ""))
        if minutes is None:
            raise _Refused("Invalid period!")
        limit = min(max(_number(call.params, "limit", 200), 1), 1000)
        size_ms = minutes * MINUTE_MS
        end = min(_number(call.params, "end", call.now_ms), call.now_ms)
        start = _number(call.params, "start", 0) or max(end - limit * size_ms + 1, 0)
        # With more candles in the window than the limit, the newest are given.
        first = max(start, end - limit * size_ms + 1)
        found = coin.path.candles(minutes, first, end + 1, call.now_ms)[-limit:]
        return {
            "symbol": coin.listing.symbol,
            "category": _category(call.params),
            "list": [_kline_row(coin, candle) for candle in reversed(found)],
        }

    def _orderbook(self, call: Call) -> object:
        coin = self._coin(call)
        limit = min(max(_number(call.params, "limit", 25), 1), 500)
        book = self._world.book(_venue(call.params), coin)
        bids, asks = book.levels()
        return {
            "s": coin.listing.symbol,
            "b": level_texts(coin, bids[:limit]),
            "a": level_texts(coin, asks[:limit]),
            "ts": call.now_ms,
            "u": book.step,
            "seq": book.update_id - (STALE_IDS if call.is_stale else 0),
            "cts": book.at_ms,
        }

    def _tickers(self, call: Call) -> object:
        coins, venue = self._chosen(call), _venue(call.params)
        rows = []
        for coin in coins:
            self._world.book(venue, coin)  # moves the quotes on, unless a stream does
            fields = spot_fields if venue == "bybit_spot" else linear_fields
            rows.append({**fields(self._world, coin, call.now_ms), **quote_fields(venue, coin)})
        return {"category": _category(call.params), "list": rows}

    def _funding_history(self, call: Call) -> object:
        if _category(call.params) != "linear":
            raise _Refused("params error: Category is invalid")
        coin = self._coin(call)
        limit = min(max(_number(call.params, "limit", 200), 1), 200)
        start = _number(call.params, "startTime", 0)
        end = min(_number(call.params, "endTime", call.now_ms), call.now_ms)
        if start and "endTime" not in call.params:
            raise _Refused("params error: endTime is required with startTime")
        settled = coin.funding["bybit"].settlements(start, end)[-limit:][::-1]
        rates = coin.funding["bybit"].rates(settled)
        rows = [
            {
                "symbol": coin.listing.symbol,
                "fundingRate": f"{rate:.8f}",
                "fundingRateTimestamp": str(moment),
            }
            for moment, (rate, _) in zip(settled, rates, strict=True)
        ]
        return {"category": "linear", "list": rows}

    def _instruments(self, call: Call) -> object:
        coins = self._chosen(call)
        if _category(call.params) == "spot":
            rows = [_spot_row(coin) for coin in coins]
            return {"category": "spot", "list": rows}
        rows = [_instrument_row(coin, call.now_ms) for coin in coins]
        return {"category": "linear", "list": rows, "nextPageCursor": ""}


def linear_fields(world: World, coin: Coin, now_ms: int) -> dict[str, str]:
    """A linear ticker without the best quotes, as REST and the stream's snapshot give it."""
    hour_ago = coin.path.price_at(now_ms - HOUR_MS)
    decimals = coin.path.price_decimals
    mark, index = mark_prices(world, coin, now_ms)
    interest = coin.listing.turnover / 4 / max(index, 1e-9)
    funding = coin.funding["bybit"]
    settles_ms = funding.next_ms(now_ms)
    day = _day_fields("bybit", coin, now_ms)
    rises = float(day["price24hPcnt"]) >= 0
    return {
        **day,
        "tickDirection": "PlusTick" if rises else "MinusTick",
        "prevPrice1h": decimal_text(round(hour_ago), decimals) if hour_ago else "",
        "markPrice": f"{mark:.{decimals}f}",
        "indexPrice": f"{index:.{decimals}f}",
        "openInterest": f"{interest:.3f}",
        "openInterestValue": f"{interest * mark:.2f}",
        "fundingIntervalHour": str(funding.interval_ms(now_ms) // HOUR_MS),
        "fundingCap": "0.0075",
        "nextFundingTime": str(settles_ms),
        "fundingRate": f"{funding.rate(settles_ms):.8f}",
    }


def spot_fields(world: World, coin: Coin, now_ms: int) -> dict[str, str]:
    """A spot ticker without the best quotes."""
    index = mark_prices(world, coin, now_ms)[1]
    return {**_day_fields("bybit_spot", coin, now_ms), "usdIndexPrice": f"{index:.6f}"}


def _day_fields(venue: str, coin: Coin, now_ms: int) -> dict[str, str]:
    day = coin.path.day_summary(now_ms)
    last = last_price(venue, coin)
    decimals = coin.path.price_decimals
    first = day.first if day else last
    return {
        "symbol": coin.listing.symbol or "",
        "lastPrice": decimal_text(last, decimals),
        "price24hPcnt": f"{last / first - 1:.6f}",
        "prevPrice24h": decimal_text(first, decimals),
        "highPrice24h": decimal_text(max(day.high, last) if day else last, decimals),
        "lowPrice24h": decimal_text(min(day.low, last) if day else last, decimals),
        "turnover24h": f"{day.turnover if day else 0:.4f}",
        "volume24h": decimal_text(day.volume if day else 0, coin.path.volume_decimals),
    }


def last_price(venue: str, coin: Coin) -> int:
    """The last trade in ticks: at the bid or the ask, whichever the step picked."""
    book = coin.books[venue]
    return book.top.bid if book.step % 2 else book.top.ask


def quote_fields(venue: str, coin: Coin) -> dict[str, str]:
    """The ticker's four fields of the best quotes."""
    top = coin.books[venue].top
    (bid, bid_size), (ask, ask_size) = level_texts(coin, [top[:2], top[2:]])
    return {"bid1Price": bid, "bid1Size": bid_size, "ask1Price": ask, "ask1Size": ask_size}


def _kline_row(coin: Coin, candle: Candle) -> list[str]:
    prices = [decimal_text(price, coin.path.price_decimals) for price in candle[1:5]]
    return [
        str(candle[0]),
        *prices,
        decimal_text(candle[5], coin.path.volume_decimals),
        f"{kline_extras(coin, candle)[0]:.8f}",
    ]


def _instrument_row(coin: Coin, now_ms: int) -> object:
    listing, decimals = coin.listing, coin.path.price_decimals
    step = decimal_text(1, listing.step_decimals)
    return {
        "symbol": listing.symbol,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": listing.ticker.upper(),
        "quoteCoin": "USDT",
        "settleCoin": "USDT",
        "launchTime": str(coin.path.listed_ms),
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(decimals),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "50.00", "leverageStep": "0.01"},
        "priceFilter": {
            "minPrice": decimal_text(1, decimals),
            "maxPrice": "1999999.80",
            "tickSize": decimal_text(1, decimals),
        },
        "lotSizeFilter": {
            "maxOrderQty": "10000000",
            "minOrderQty": step,
            "qtyStep": step,
            "minNotionalValue": str(listing.min_notional),
        },
        "fundingInterval": coin.funding["bybit"].interval_ms(now_ms) // MINUTE_MS,
        "upperFundingRate": "0.0075",
        "lowerFundingRate": "-0.0075",
    }


def _spot_row(coin: Coin) -> object:
    listing, decimals = coin.listing, coin.path.price_decimals
    step = decimal_text(1, listing.step_decimals)
    return {
        "symbol": listing.symbol,
        "baseCoin": listing.ticker.upper(),
        "quoteCoin": "USDT",
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "both",
        "lotSizeFilter": {
            "basePrecision": step,
            "quotePrecision": "0.0000001",
            "minOrderQty": step,
            "maxOrderQty": "10000000",
            "minOrderAmt": str(listing.min_notional),
            "maxOrderAmt": "8000000",
        },
        "priceFilter": {"tickSize": decimal_text(1, decimals)},
    }


def _time(call: Call) -> object:
    seconds = call.now_ms // 1000
    return {"timeSecond": str(seconds), "timeNano": str(call.now_ms * 1_000_000)}


def _envelope(now_ms: int, result: object, code: int = 0, text: str = "OK") -> object:
    return {"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": now_ms}


def _category(params: Params) -> str:
    category = params.get("category", "linear")
    if category not in ("linear", "spot"):
        raise _Refused("params error: Category is invalid")
    return category


def _venue(params: Params) -> str:
    return "bybit_spot" if _category(params) == "spot" else "bybit"


def _number(params: Params, name: str, default: int) -> int:
    text = params.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _Refused(f"params error: {name} is invalid")
    return int(text)
