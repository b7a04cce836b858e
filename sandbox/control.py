"""The control surface of the world: faults, counts, and what tests may know beforehand."""

from datetime import UTC, datetime

import msgspec

from sandbox.binance import level_texts
from sandbox.faults import BadFault, FaultBoard
from sandbox.hub import Hub
from sandbox.limits import RequestLog
from sandbox.replies import Params, Reply, json_reply
from sandbox.streams import Stream
from sandbox.world import EXCHANGES, World


class Control:
    """Answers calls below `/control`."""

    def __init__(
        self,
        world: World,
        faults: FaultBoard,
        log: RequestLog,
        hub: Hub,
        streams: dict[str, Stream],
    ) -> None:
        self._world = world
        self._faults = faults
        self._log = log
        self._hub = hub
        self._streams = streams

    def answer(self, method: str, path: str, params: Params, body: bytes) -> Reply:
        """The answer to one call."""
        match method, path:
            case "GET", "world":
                return json_reply(self._describe())
            case "GET", "requests":
                return json_reply(self._log.report())
            case "GET", "book":
                return self._book(params)
            case "GET", "faults":
                return json_reply(self._faults.report())
            case "POST", "faults":
                return self._change_faults(body)
            case "DELETE", "faults":
                self._faults.change({"clear": True})
                return json_reply(self._faults.report())
        return json_reply({"error": f"no {method} /control/{path}"}, 404)

    def _change_faults(self, body: bytes) -> Reply:
        try:
            self._faults.change(msgspec.json.decode(body))
        except (BadFault, msgspec.DecodeError) as error:
            return json_reply({"error": str(error)}, 400)
        for exchange in EXCHANGES:
            if self._faults.hit(exchange, "ws_disconnect", "") or self._faults.is_on(
                exchange, "outage"
            ):
                self._hub.end_all(exchange)
        return json_reply(self._faults.report())

    def _describe(self) -> object:
        world, clock = self._world, self._world.clock
        now_ms = clock.now_ms()
        return {
            "kind": world.kind,
            "seed": world.seed,
            "start": _iso(clock.start_ms),
            "speed": clock.speed,
            "market_time": _iso(now_ms),
            "market_time_ms": now_ms,
            "instruments": [
                {
                    "coin": coin.listing.coin,
                    "symbol": coin.listing.symbol,
                    "listed": _iso(coin.path.listed_ms),
                    "tick": coin.path.tick,
                    "step": 10.0**-coin.listing.step_decimals,
                }
                for coin in world.coins.values()
            ],
            "series": world.series_names(),
        }

    def _book(self, params: Params) -> Reply:
        exchange, symbol = params.get("exchange", ""), params.get("symbol", "")
        coin = self._world.by_symbol(symbol, self._world.clock.now_ms())
        if exchange not in EXCHANGES or coin is None:
            return json_reply({"error": "expected exchange=binance|bybit and a symbol"}, 400)
        book = self._world.book(exchange, coin)
        bids, asks = book.levels()
        return json_reply(
            {
                "exchange": exchange,
                "symbol": symbol,
                "update_id": book.update_id,
                "step": book.step,
                "at_ms": book.at_ms,
                "topics": self._streams[exchange].states(symbol),
                "bids": level_texts(coin, [*bids]),
                "asks": level_texts(coin, [*asks]),
            }
        )


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")
