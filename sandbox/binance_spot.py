"""Binance spot REST: the public market-data calls of `/api/v3`, at the perpetual's prices.

Shapes, weights and error codes follow developers.binance.com/docs/binance-spot-api-docs.
"""

from sandbox.binance import Binance, Refused, level_texts, number_of, snapshot_id
from sandbox.figures import decimal_text
from sandbox.replies import Call
from sandbox.world import Coin, World

SPOT_WEIGHT_LIMIT = 6000
MOST_LEVELS = 5000


class BinanceSpot(Binance):
    """Answers calls below `/binance/api`."""

    name = "binance_spot"
    prefix = "v3/"
    weight_limit = SPOT_WEIGHT_LIMIT
    most_klines = 1000

    def __init__(self, world: World) -> None:
        super().__init__(world)
        for derivatives_only in ("premiumIndex", "fundingRate", "fundingInfo"):
            del self._routes[derivatives_only]

    def weight(self, call: Call) -> int:
        """The request weight of a call."""
        one = "symbol" in call.params
        match call.path.removeprefix(self.prefix):
            case "klines":
                return 2
            case "depth":
                text = call.params.get("limit", "100")
                limit = int(text[:9]) if text.isascii() and text.isdigit() else 100
                steps = ((100, 5), (500, 25), (1000, 50))
                return next((weight for most, weight in steps if limit <= most), 250)
            case "exchangeInfo":
                return 20
            case "ticker/24hr":
                return 2 if one else 80
            case "ticker/bookTicker":
                return 2 if one else 4
        return 1

    def _exchange_info(self, call: Call) -> object:
        limit = {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": SPOT_WEIGHT_LIMIT,
        }
        return {
            "timezone": "UTC",
            "serverTime": call.now_ms,
            "rateLimits": [limit],
            "exchangeFilters": [],
            "symbols": [_symbol_row(coin) for coin in self._world.tradable(self.name, call.now_ms)],
        }

    def _depth(self, call: Call) -> object:
        coin = self._coin(call)
        limit = number_of(call.params, "limit", 100)
        if not 1 <= limit <= MOST_LEVELS:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        book = self._world.book(self.name, coin)
        bids, asks = book.levels()
        return {
            "lastUpdateId": snapshot_id(call, book),
            "bids": level_texts(coin, bids[:limit]),
            "asks": level_texts(coin, asks[:limit]),
        }

    def _book_ticker(self, coin: Coin, now_ms: int) -> object:
        book = self._world.book(self.name, coin)
        bid, ask = level_texts(coin, [book.top[:2], book.top[2:]])
        return {
            "symbol": coin.listing.symbol,
            "bidPrice": bid[0],
            "bidQty": bid[1],
            "askPrice": ask[0],
            "askQty": ask[1],
        }


def _symbol_row(coin: Coin) -> object:
    listing, path = coin.listing, coin.path
    tick, step = decimal_text(1, path.price_decimals), decimal_text(1, listing.step_decimals)
    return {
        "symbol": listing.symbol,
        "status": "TRADING",
        "baseAsset": listing.ticker.upper(),
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "1000000",
                "tickSize": tick,
            },
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "10000000", "stepSize": step},
            {"filterType": "NOTIONAL", "minNotional": str(listing.min_notional)},
        ],
    }
