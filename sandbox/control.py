"""The control surface of the world: faults, counts, and what tests may know beforehand."""

from datetime import UTC, datetime

import msgspec

from sandbox.binance import level_texts
from sandbox.faults import BadFault, FaultBoard
from sandbox.hub import Hub
from sandbox.limits import RequestLog
from sandbox.replies import Params, Reply, json_reply
from sandbox.streams import Stream
from sandbox.world import EXCHANGES, PERPETUALS, World


class _FundingChange(msgspec.Struct, forbid_unknown_fields=True):
    """An instrument's new funding interval."""

    exchange: str
    symbol: str
    hours: int


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
                return self._change_faults(b'{"clear":true}')
            case "POST", "funding":
                return self._change_funding(body)
        return json_reply({"error": f"no {method} /control/{path}"}, 404)

    def _change_faults(self, body: bytes) -> Reply:
        try:
            self._faults.change(msgspec.json.decode(body))
        except (BadFault, msgspec.DecodeError) as error:
            return json_reply({"error": str(error)}, 400)
        self._world.delist(self._faults.delisted())
        for exchange in EXCHANGES:
            restart = self._faults.current(exchange, "ws_restart")
            if restart and not restart.is_known:
                restart.is_known = True
                self._streams[exchange].restart()
            ends = self._faults.hit(exchange, "ws_disconnect", "")
            if ends or restart or self._faults.is_on(exchange, "outage"):
                self._hub.end_all(exchange)
        return json_reply(self._faults.report())

    def _change_funding(self, body: bytes) -> Reply:
        now_ms = self._world.clock.now_ms()
        try:
            wanted = msgspec.json.decode(body, type=_FundingChange)
            coin = self._world.by_symbol(wanted.exchange, wanted.symbol, now_ms)
            if coin is None or wanted.exchange not in PERPETUALS:
                raise ValueError("expected the exchange and symbol of a perpetual")
            since_ms = coin.funding[wanted.exchange].change(wanted.hours, now_ms)
        except (msgspec.DecodeError, ValueError) as error:
            return json_reply({"error": str(error)}, 400)
        return json_reply({"after": _iso(since_ms), "after_ms": since_ms, "hours": wanted.hours})

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
        coin = self._world.by_symbol(exchange, symbol, self._world.clock.now_ms())
        if exchange not in EXCHANGES or coin is None:
            expected = f"expected exchange={'|'.join(EXCHANGES)} and a symbol"
            return json_reply({"error": expected}, 400)
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
