"""CoinGecko's public API: ping, coins/markets, market_chart, market_chart/range and ohlc.

Granularity, rolling volumes, bar-end stamps and error shapes follow docs.coingecko.com and
recorded answers of the public API.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from sandbox.bars import HOUR_MS, Ints
from sandbox.limits import CallWindow
from sandbox.noise import key_of, uniform, uniform_many
from sandbox.path import DAY_MS, MINUTE_MS
from sandbox.replies import Call, Params, Reply, json_reply
from sandbox.world import Coin, World

FREE_DAYS = 365
FREE_LIMIT, PRO_LIMIT = 30, 500
OHLC_DAYS = ("1", "7", "14", "30", "90", "180", "365", "max")
TOO_FAR = (
    "Your request exceeds the allowed time range. Public API users are limited to querying"
    " historical data within the past 365 days. Upgrade to a paid plan to enjoy full historical"
    " data access: https://www.coingecko.com/en/api/pricing."
)
TOO_MANY = (
    "You've exceeded the Rate Limit. Please visit https://www.coingecko.com/en/api/pricing to"
    " subscribe to our API plans for higher rate limits."
)


class _Refused(Exception):
    """A call that CoinGecko answers with an error; carries the reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class CoinGecko:
    """Answers calls below `/coingecko/api/v3`."""

    name = "coingecko"

    def __init__(self, world: World) -> None:
        self._world = world
        self._free = CallWindow(FREE_LIMIT, MINUTE_MS)
        self._pro = CallWindow(PRO_LIMIT, MINUTE_MS)

    def endpoint(self, path: str) -> str:
        """The name a path is counted under."""
        parts = path.split("/")
        if parts[0] == "coins" and len(parts) > 2:
            parts[1] = "{id}"
        return "/".join(parts)

    def over_limit(self, call: Call) -> Reply | None:
        """Count the call against the plan's minute; the 429 when it is one too many."""
        window = self._pro if _has_pro_key(call) else self._free
        if window.spend(call.now_ms, 1):
            return None
        return self.rate_limited(window.retry_after(call.now_ms, self._world.clock.speed))

    def rate_limited(self, retry_after: int) -> Reply:
        """The answer to a call above the limit."""
        body = {"status": {"error_code": 429, "error_message": TOO_MANY}}
        return json_reply(body, 429, {"Retry-After": str(retry_after)})

    def answer(self, call: Call) -> Reply:
        """The answer to one call."""
        parts = call.path.split("/")
        try:
            if call.path == "ping":
                return json_reply({"gecko_says": "(V3) To the Moon!"})
            if call.path == "coins/markets":
                return self._markets(call)
            if parts[0] == "coins" and len(parts) in (3, 4):
                coin = self._coin(parts[1], call.now_ms)
                match parts[2:]:
                    case ["market_chart"]:
                        return self._market_chart(call, coin)
                    case ["market_chart", "range"]:
                        return self._market_chart_range(call, coin)
                    case ["ohlc"]:
                        return self._ohlc(call, coin)
        except _Refused as refused:
            return refused.reply
        return json_reply(
            {"error": "Incorrect path. Please check https://www.coingecko.com/api/"}, 404
        )

    def _coin(self, name: str, now_ms: int) -> Coin:
        coin = self._world.coins.get(name)
        if coin is None or coin.path.listed_ms > now_ms:
            raise _Refused(json_reply({"error": "coin not found"}, 404))
        return coin

    def _markets(self, call: Call) -> Reply:
        _currency(call.params)
        now_ms = call.now_ms
        known = [coin for coin in self._world.coins.values() if coin.path.listed_ms <= now_ms]
        ranked = sorted(known, key=lambda coin: -_usd(coin, now_ms) * coin.listing.supply)
        rows = [_market_row(coin, rank, now_ms) for rank, coin in enumerate(ranked, start=1)]
        if call.params.get("ids"):
            wanted = set(call.params["ids"].split(","))
            rows = [row for row in rows if row["id"] in wanted]
        order = call.params.get("order", "market_cap_desc")
        field = {"market_cap": "market_cap", "volume": "total_volume", "id": "id"}.get(
            order.rpartition("_")[0], "market_cap"
        )
        rows.sort(key=lambda row: row[field], reverse=not order.endswith("_asc"))
        per_page = min(_number(call.params, "per_page", 100), 250)
        page = _number(call.params, "page", 1)
        return json_reply(rows[(page - 1) * per_page : page * per_page])

    def _market_chart(self, call: Call, coin: Coin) -> Reply:
        _currency(call.params)
        text = call.params.get("days", "")
        if not text:
            raise _Refused(json_reply({"error": "Missing parameter days"}, 422))
        now_ms = call.now_ms
        try:
            span_ms = now_ms if text == "max" else int(float(text) * DAY_MS)
        except (ValueError, OverflowError):
            raise _Refused(json_reply({"error": "Invalid days"}, 422)) from None
        if span_ms > FREE_DAYS * DAY_MS and not _has_pro_key(call):
            raise _Refused(_too_far(now_ms))
        daily = call.params.get("interval") == "daily"
        return json_reply(self._chart(coin, now_ms - span_ms, now_ms, now_ms, daily))

    def _market_chart_range(self, call: Call, coin: Coin) -> Reply:
        _currency(call.params)
        try:
            start_ms, stop_ms = (int(float(call.params[name]) * 1000) for name in ("from", "to"))
        except KeyError as missing:
            body = {"error": f"Missing parameter {missing.args[0]}"}
            raise _Refused(json_reply(body, 422)) from None
        except (ValueError, OverflowError):
            raise _Refused(json_reply({"error": "Invalid from or to"}, 422)) from None
        if start_ms < call.now_ms - FREE_DAYS * DAY_MS and not _has_pro_key(call):
            raise _Refused(_too_far(call.now_ms))
        return json_reply(self._chart(coin, start_ms, stop_ms, call.now_ms, daily=False))

    def _chart(
        self, coin: Coin, start_ms: int, stop_ms: int, now_ms: int, daily: bool
    ) -> dict[str, object]:
        start_ms = max(start_ms, coin.path.listed_ms)
        days = (min(stop_ms, now_ms) - start_ms) / DAY_MS
        is_last_day = start_ms >= now_ms - DAY_MS
        step_ms = 5 * MINUTE_MS if is_last_day else HOUR_MS if days <= 90 else DAY_MS
        moments = self._moments(coin, start_ms, min(stop_ms, now_ms), DAY_MS if daily else step_ms)
        prices = coin.path.prices_at(moments) if len(moments) else np.zeros(0)
        known = ~np.isnan(prices)
        moments, prices = moments[known], prices[known] / 10**coin.path.price_decimals
        stamps = moments.tolist()
        values = prices.tolist()
        if len(stamps) > 2 and stop_ms >= now_ms and self._repeats(coin, now_ms):
            stamps[-1], values[-1] = stamps[-2] - 1000, values[-2]
        volumes = coin.path.turnovers(moments).tolist() if len(moments) else []
        caps = [value * coin.listing.supply for value in values]
        return {
            "prices": list(zip(stamps, values, strict=True)),
            "market_caps": list(zip(stamps, caps, strict=True)),
            "total_volumes": list(zip(stamps, volumes, strict=True)),
        }

    def _moments(self, coin: Coin, start_ms: int, stop_ms: int, step_ms: int) -> Ints:
        """Sampling moments: on the day for daily ones, else irregular; the end itself closes."""
        if stop_ms <= start_ms:
            return np.zeros(0, dtype=np.int64)
        first = -(-start_ms // step_ms)
        numbers = np.arange(first, stop_ms // step_ms + 1, dtype=np.int64)
        moments = numbers * step_ms
        if step_ms < DAY_MS:
            key = key_of(self._world.seed, coin.listing.coin, "sampling", step_ms)
            moments = moments + (uniform_many(key, numbers) * step_ms * 0.2).astype(np.int64)
        moments = moments[moments < stop_ms]
        return np.append(moments, stop_ms)

    def _repeats(self, coin: Coin, now_ms: int) -> bool:
        """Whether the last point repeats the one before it with an earlier stamp."""
        key = key_of(self._world.seed, coin.listing.coin, "repeats")
        return uniform(key, now_ms // MINUTE_MS) < 0.25

    def _ohlc(self, call: Call, coin: Coin) -> Reply:
        if not call.params:
            return json_reply({"status": 500, "error": "Internal Server Error"}, 500)
        _currency(call.params)
        days_text = call.params.get("days", "")
        if days_text not in OHLC_DAYS:
            raise _Refused(json_reply({"error": "Invalid days parameter"}, 422))
        now_ms = call.now_ms
        if days_text == "max" and not _has_pro_key(call):
            raise _Refused(_too_far(now_ms))
        days = now_ms // DAY_MS if days_text == "max" else int(days_text)
        minutes = 30 if days <= 2 else 240 if days <= 30 else 4 * 1440
        found = coin.path.candles(minutes, now_ms - days * DAY_MS, now_ms + 1, now_ms)
        scale = 10**coin.path.price_decimals
        rows = [
            [bar.open_ms + minutes * MINUTE_MS, *(price / scale for price in bar[1:5])]
            for bar in found
        ]
        return json_reply(rows)


def _usd(coin: Coin, now_ms: int) -> float:
    return (coin.path.price_at(now_ms) or 0.0) * coin.path.tick


def _market_row(coin: Coin, rank: int, now_ms: int) -> dict[str, Any]:
    listing, scale = coin.listing, 10**coin.path.price_decimals
    price = round((coin.path.price_at(now_ms) or 0.0) / scale, 10)
    day = coin.path.day_summary(now_ms)
    before = day.first / scale if day else price
    change = price - before
    return {
        "id": listing.coin,
        "symbol": listing.ticker,
        "name": listing.name,
        "image": f"https://assets.coingecko.com/coins/images/{rank}/large/{listing.coin}.png",
        "current_price": price,
        "market_cap": round(price * listing.supply),
        "market_cap_rank": rank,
        "fully_diluted_valuation": round(price * listing.supply * 1.05),
        "total_volume": round(day.turnover) if day else 0,
        "high_24h": day.high / scale if day else None,
        "low_24h": day.low / scale if day else None,
        "price_change_24h": change,
        "price_change_percentage_24h": round(change / before * 100, 5),
        "market_cap_change_24h": change * listing.supply,
        "market_cap_change_percentage_24h": round(change / before * 100, 5),
        "circulating_supply": listing.supply,
        "total_supply": None if rank % 3 == 0 else listing.supply * 1.05,
        "max_supply": listing.supply * 1.05 if rank % 2 else None,
        "ath": None,
        "ath_change_percentage": None,
        "ath_date": None,
        "atl": None,
        "atl_change_percentage": None,
        "atl_date": None,
        "roi": None,
        "last_updated": _iso(now_ms),
    }


def _iso(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _currency(params: Params) -> None:
    currency = params.get("vs_currency")
    if not currency:
        raise _Refused(json_reply({"error": "Missing parameter vs_currency"}, 422))
    if currency != "usd":
        raise _Refused(json_reply({"error": "invalid vs_currency"}, 400))


def _number(params: Params, name: str, default: int) -> int:
    text = params.get(name, "")
    return max(1, int(text[:9])) if text.isascii() and text.isdigit() else default


def _has_pro_key(call: Call) -> bool:
    return bool(call.headers.get("x-cg-pro-api-key") or call.params.get("x_cg_pro_api_key"))


def _too_far(now_ms: int) -> Reply:
    stamp = _iso(now_ms).replace("Z", "+00:00")
    status = {"timestamp": stamp, "error_code": 10012, "error_message": TOO_FAR}
    return json_reply({"error": {"status": status}}, 401)
