"""Binance USD-M futures REST: the public market-data calls of `/fapi/v1`.

Shapes, weights and error codes follow developers.binance.com/docs/derivatives.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from sandbox.bars import HOUR_MS
from sandbox.books import MOST_ID_GAP, STALE_IDS, Book
from sandbox.figures import decimal_text
from sandbox.funding import USUAL_MS
from sandbox.limits import CallWindow
from sandbox.noise import key_of, uniform
from sandbox.path import DAY_MS, MINUTE_MS, Candle
from sandbox.replies import Call, Params, Reply, json_reply
from sandbox.world import Coin, World

WEIGHT_LIMIT = 2400
DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
INTERVALS = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "1d": 1440,
}


class Refused(Exception):
    """A call that Binance answers with 400: code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.body = {"code": code, "msg": message}


class Binance:
    """Answers calls below `/binance`."""

    name = "binance"
    prefix = "fapi/v1/"
    weight_limit = WEIGHT_LIMIT
    most_klines = 1500

    def __init__(self, world: World) -> None:
        self._world = world
        self._window = CallWindow(self.weight_limit, MINUTE_MS)
        self._routes: dict[str, Callable[[Call], object]] = {
            "ping": lambda call: {},
            "time": lambda call: {"serverTime": call.now_ms},
            "exchangeInfo": self._exchange_info,
            "klines": self._klines,
            "depth": self._depth,
            "premiumIndex": self._premium_index,
            "fundingRate": self._funding_rates,
            "fundingInfo": self._funding_info,
            "ticker/24hr": self._day_tickers,
            "ticker/bookTicker": self._book_tickers,
        }

    def endpoint(self, path: str) -> str:
        """The name a path is counted under."""
        return path

    def over_limit(self, call: Call) -> Reply | None:
        """Count the call's weight; the 429 when the minute's weight is used up."""
        if self._window.spend(call.now_ms, self.weight(call)):
            return None
        return self.rate_limited(self._window.retry_after(call.now_ms, self._world.clock.speed))

    def rate_limited(self, retry_after: int) -> Reply:
        """The answer to a call above the limit."""
        text = (
            f"Too many requests; current limit is {self.weight_limit} request weight per 1 minute."
        )
        headers = {"Retry-After": str(retry_after), **self._used_weight()}
        return json_reply({"code": -1003, "msg": text}, 429, headers)

    def banned(self, seconds: float) -> Reply:
        """The answer to an address that is banned for so many more wall seconds."""
        until_ms = self._world.clock.now_ms() + round(seconds * 1000 * self._world.clock.speed)
        text = (
            f"Way too much request weight used; IP banned until {until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
        headers = {"Retry-After": str(math.ceil(seconds)), **self._used_weight()}
        return json_reply({"code": -1003, "msg": text}, 418, headers)

    def answer(self, call: Call) -> Reply:
        """The answer to one call."""
        route = self._routes.get(call.path.removeprefix(self.prefix))
        if route is None or not call.path.startswith(self.prefix):
            return json_reply({"code": -5000, "msg": f"Path /{call.path} is invalid"}, 404)
        try:
            return json_reply(route(call), 200, self._used_weight())
        except Refused as refused:
            return json_reply(refused.body, 400, self._used_weight())

    def _used_weight(self) -> dict[str, str]:
        return {"X-MBX-USED-WEIGHT-1M": str(self._window.used)}

    def weight(self, call: Call) -> int:
        """The request weight of a call."""
        return _weight(call)

    def _coin(self, call: Call) -> Coin:
        symbol = call.params.get("symbol", "")
        if not symbol:
            raise Refused(
                -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            )
        coin = self._world.by_symbol(self.name, symbol, call.now_ms)
        if coin is None:
            raise Refused(-1121, "Invalid symbol.")
        return coin

    def _one_or_all(self, call: Call, row: Callable[[Coin, int], object]) -> object:
        if "symbol" in call.params:
            return row(self._coin(call), call.now_ms)
        return [row(coin, call.now_ms) for coin in self._world.tradable(self.name, call.now_ms)]

    def _exchange_info(self, call: Call) -> object:
        limit = {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": WEIGHT_LIMIT,
        }
        return {
            "timezone": "UTC",
            "serverTime": call.now_ms,
            "futuresType": "U_MARGINED",
            "rateLimits": [limit],
            "exchangeFilters": [],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [_symbol_row(coin) for coin in self._world.tradable(self.name, call.now_ms)],
        }

    def _klines(self, call: Call) -> object:
        coin = self._coin(call)
        minutes = INTERVALS.get(call.params.get("interval", ""))
        if minutes is None:
            raise Refused(-1120, "Invalid interval.")
        limit = number_of(call.params, "limit", 500)
        if not 1 <= limit <= self.most_klines:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        size_ms = minutes * MINUTE_MS
        start = _optional(call.params, "startTime")
        end = number_of(call.params, "endTime", call.now_ms)
        end = min(end, call.now_ms)
        if start is None:
            start = end - limit * size_ms + 1
            while True:
                found = coin.path.candles(minutes, start, end + 1, call.now_ms)[-limit:]
                if len(found) == limit or start <= coin.path.listed_ms:
                    break
                start -= (limit - len(found)) * size_ms
        else:
            start = max(start, coin.path.listed_ms - size_ms)
            found = []
            while start <= end and len(found) < limit:
                stop = min(end + 1, start + (limit - len(found)) * size_ms)
                found.extend(coin.path.candles(minutes, start, stop, call.now_ms))
                start = max(stop, -(-start // size_ms) * size_ms)
        return [kline_row(coin, candle, size_ms) for candle in found[:limit]]

    def _depth(self, call: Call) -> object:
        coin = self._coin(call)
        limit = number_of(call.params, "limit", 500)
        if limit not in DEPTHS:
            raise Refused(-4021, f"'{limit}' is not valid depth limit.")
        book = self._world.book(self.name, coin)
        bids, asks = book.levels()
        return {
            "lastUpdateId": snapshot_id(call, book),
            "E": call.now_ms,
            "T": book.at_ms,
            "bids": level_texts(coin, bids[:limit]),
            "asks": level_texts(coin, asks[:limit]),
        }

    def _premium_index(self, call: Call) -> object:
        return self._one_or_all(call, self._premium_row)

    def _premium_row(self, coin: Coin, now_ms: int) -> object:
        funding = coin.funding[self.name]
        settles_ms = funding.next_ms(now_ms)
        mark, index = mark_prices(self._world, coin, now_ms)
        return {
            "symbol": coin.listing.symbol,
            "markPrice": f"{mark:.8f}",
            "indexPrice": f"{index:.8f}",
            "estimatedSettlePrice": f"{index:.8f}",
            "lastFundingRate": f"{funding.rate(settles_ms):.8f}",
            "interestRate": "0.00010000",
            "nextFundingTime": settles_ms,
            "time": now_ms,
        }

    def _funding_rates(self, call: Call) -> object:
        limit = min(number_of(call.params, "limit", 100), 1000)
        start = _optional(call.params, "startTime")
        end = min(number_of(call.params, "endTime", call.now_ms), call.now_ms)
        if "symbol" in call.params:
            return self._settled(self._coin(call), start, end, limit)
        if start is None:
            start, limit = end - USUAL_MS, 200
        coins = self._world.tradable(self.name, call.now_ms)
        rows = [row for coin in coins for row in self._settled(coin, start, end, limit)]
        return sorted(rows, key=lambda row: row["fundingTime"])[:limit]

    def _settled(self, coin: Coin, start: int | None, end: int, limit: int) -> list[dict[str, Any]]:
        funding = coin.funding[self.name]
        settled = funding.settlements(start or 0, end)
        settled = settled[:limit] if start is not None else settled[-limit:]
        rates = funding.rates(settled)
        return [
            {
                "symbol": coin.listing.symbol,
                "fundingTime": moment,
                "fundingRate": f"{rate:.8f}",
                "markPrice": f"{price:.8f}",
            }
            for moment, (rate, price) in zip(settled, rates, strict=True)
        ]

    def _funding_info(self, call: Call) -> object:
        return [
            {
                "symbol": coin.listing.symbol,
                "adjustedFundingRateCap": "0.00750000",
                "adjustedFundingRateFloor": "-0.00750000",
                "fundingIntervalHours": coin.funding[self.name].interval_ms(call.now_ms) // HOUR_MS,
                "disclaimer": False,
            }
            for coin in self._world.tradable(self.name, call.now_ms)
        ]

    def _day_tickers(self, call: Call) -> object:
        return self._one_or_all(call, _day_ticker)

    def _book_tickers(self, call: Call) -> object:
        return self._one_or_all(call, self._book_ticker)

    def _book_ticker(self, coin: Coin, now_ms: int) -> object:
        book = self._world.book(self.name, coin)
        bid, ask = level_texts(coin, [book.top[:2], book.top[2:]])
        return {
            "symbol": coin.listing.symbol,
            "bidPrice": bid[0],
            "bidQty": bid[1],
            "askPrice": ask[0],
            "askQty": ask[1],
            "time": book.at_ms,
            "lastUpdateId": book.update_id,
        }


def snapshot_id(call: Call, book: Book) -> int:
    """The id of a snapshot, which lies between two diffs."""
    return book.update_id + MOST_ID_GAP - (STALE_IDS if call.is_stale else 0)


def kline_row(coin: Coin, candle: Candle, size_ms: int) -> list[object]:
    """A candle as the REST array of twelve."""
    prices = [decimal_text(price, coin.path.price_decimals) for price in candle[1:5]]
    quote, trades, taken = kline_extras(coin, candle)
    decimals = coin.path.volume_decimals
    return [
        candle.open_ms,
        *prices,
        decimal_text(candle.volume, decimals),
        candle.open_ms + size_ms - 1,
        f"{quote:.8f}",
        trades,
        decimal_text(int(candle.volume * taken), decimals),
        f"{quote * taken:.8f}",
        "0",
    ]


def kline_extras(coin: Coin, candle: Candle) -> tuple[float, int, float]:
    """A candle's quote volume, number of trades, and share of volume taken by buyers."""
    volume = candle.volume / 10**coin.path.volume_decimals
    quote = volume * sum(candle[1:5]) / 4 / 10**coin.path.price_decimals
    taken = 0.5 + 0.4 * (candle.close - candle.open) / max(candle.high - candle.low, 1)
    return quote, round(quote / 2500) + (candle.volume > 0), taken


def level_texts(coin: Coin, levels: Iterable[tuple[int, ...]]) -> list[tuple[str, str]]:
    """Price and size of levels as text on the instrument's tick and step."""
    prices, sizes = coin.prices, coin.sizes
    return [(prices[price], sizes[size]) for price, size in levels]


def mark_prices(world: World, coin: Coin, now_ms: int) -> tuple[float, float]:
    """Mark and index price in USD at a moment."""
    price = (coin.path.price_at(now_ms) or 0.0) * coin.path.tick
    premium = uniform(key_of(world.seed, coin.listing.coin, "premium"), now_ms // MINUTE_MS) - 0.5
    return price * (1 + premium * 0.0001), price * (1 - premium * 0.0002)


def _symbol_row(coin: Coin) -> object:
    listing, path = coin.listing, coin.path
    tick, step = decimal_text(1, path.price_decimals), decimal_text(1, listing.step_decimals)
    return {
        "symbol": listing.symbol,
        "pair": listing.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": path.listed_ms,
        "status": "TRADING",
        "baseAsset": listing.ticker.upper(),
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": path.price_decimals,
        "quantityPrecision": listing.step_decimals,
        "underlyingType": "COIN",
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "1000000",
                "tickSize": tick,
            },
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "10000000", "stepSize": step},
            {"filterType": "MIN_NOTIONAL", "notional": str(listing.min_notional)},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def _day_ticker(coin: Coin, now_ms: int) -> object:
    day = coin.path.day_summary(now_ms)
    if day is None:
        raise Refused(-1121, "Invalid symbol.")
    decimals, volume = coin.path.price_decimals, day.volume / 10**coin.path.volume_decimals
    return {
        "symbol": coin.listing.symbol,
        "priceChange": decimal_text(day.last - day.first, decimals),
        "priceChangePercent": f"{(day.last / day.first - 1) * 100:.3f}",
        "weightedAvgPrice": f"{day.turnover / volume if volume else 0:.8f}",
        "lastPrice": decimal_text(day.last, decimals),
        "lastQty": decimal_text(1, coin.listing.step_decimals),
        "openPrice": decimal_text(day.first, decimals),
        "highPrice": decimal_text(day.high, decimals),
        "lowPrice": decimal_text(day.low, decimals),
        "volume": decimal_text(day.volume, coin.path.volume_decimals),
        "quoteVolume": f"{day.turnover:.8f}",
        "openTime": now_ms - DAY_MS,
        "closeTime": now_ms,
        "firstId": (now_ms - DAY_MS) // 100,
        "lastId": now_ms // 100,
        "count": DAY_MS // 100,
    }


def _weight(call: Call) -> int:
    path, limit_text = call.path.removeprefix("fapi/v1/"), call.params.get("limit", "500")
    limit = int(limit_text[:9]) if limit_text.isascii() and limit_text.isdigit() else 500
    one = "symbol" in call.params
    match path:
        case "klines":
            return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10
        case "depth":
            return 2 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20
        case "premiumIndex":
            return 1 if one else 10
        case "ticker/24hr":
            return 1 if one else 40
        case "ticker/bookTicker":
            return 2 if one else 5
    return 1


def number_of(params: Params, name: str, default: int) -> int:
    given = _optional(params, name)
    return default if given is None else given


def _optional(params: Params, name: str) -> int | None:
    text = params.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Refused(-1130, f"Data sent for parameter '{name}' is not valid.")
    return int(text)
