"""A loopback world that speaks the real protocols of CoinGecko, FRED, Binance and Bybit.

One port carries all four providers, below the prefixes `/coingecko/api/v3`, `/fred/fred`,
`/binance` and `/bybit`, WebSockets included. The two exchanges have a market of perpetuals and one
of spot: `binance` (sockets below `/binance/ws`, `/binance/stream`, also `/public` and `/market`),
`binance_spot` (`/binance/spot/ws`, `/binance/spot/stream`), `bybit` (`/bybit/v5/public/linear`)
and `bybit_spot` (`/bybit/v5/public/spot`). Everything served comes from one world: one-minute
price paths that meet hourly candles exactly, seeded or replayed from CSV history.

The control surface, for tests and demonstrations:

- `GET /control/world`: seed, start, speed, market time, instruments, known macro series.
- `GET /control/requests`: what was asked, per provider and endpoint, and how often a call broke
  the provider's limit.
- `GET /control/book?exchange=binance&symbol=BTCUSDT`: the whole book as the world knows it, and
  the last update told to each of its book topics; `exchange` is one of the four markets.
- `POST /control/funding` with `{"exchange": "bybit", "symbol": "BTCUSDT", "hours": 1}`: from the
  next settlement on, the perpetual settles its funding every so many hours (1, 2, 4 or 8), on the
  sockets and in REST alike.
- `GET`, `POST`, `DELETE /control/faults`: faults per provider (`coingecko`, `fred` and the four
  markets; REST calls of both Bybit categories are `bybit`'s). A fault is `true` (until cleared),
  `false` (off) or an object:

      {"binance": {
          "rate_limit":    {"retry_after": 5, "next": 3, "endpoint": "klines"},
          "server_error":  {"status": 503, "next": 2},
          "timeout":       {"seconds": 40, "next": 1},
          "malformed":     true,
          "geo_block":     true,
          "ban":           {"seconds": 30},
          "stale_snapshot": {"next": 2},
          "delisted":      {"symbol": "ETHUSDT,XRPUSDT"},
          "ws_drop":       {"next": 1, "stream": "depth"},
          "ws_duplicate":  {"probability": 0.05},
          "ws_reorder":    {"next": 1},
          "ws_truncate":   {"next": 1},
          "ws_garbage":    {"next": 16},
          "ws_wrong_symbol": {"next": 1},
          "ws_crossed":    {"next": 1},
          "ws_absurd":     {"next": 1},
          "ws_late":       {"seconds": -2.5},
          "ws_silent":     {"stream": "bookTicker"},
          "ws_disconnect": true,
          "ws_restart":    {"seconds": 5},
          "outage":        true}}

  `next` counts the calls or messages hit before the fault ends; `probability` (0 to 1) hits a
  share of them; `endpoint` and `stream` narrow a fault to names that contain the text.

  Calls: `geo_block` refuses with 451, sockets included. `ban` (Binance) refuses with 418 for its
  wall seconds and says in the text until when, in milliseconds of market time; whoever has been
  told and calls all the same breaks a limit. `stale_snapshot` answers a book's call with ids that
  lie before whatever the streams still know. `delisted` takes symbols out of the market: REST
  answers as for an unknown one, their topics fall silent, and a subscription is refused by Bybit
  and never served by Binance.

  Streams: `ws_truncate` cuts a message in the middle, `ws_garbage` puts a hostile one in its place
  (no JSON, deep nesting, right names with wrong types, one after another), `ws_wrong_symbol` puts
  another symbol into it, `ws_crossed` makes a book message bid above what is asked, `ws_absurd`
  puts in prices nobody can pay (negative, zero, 1e308, NaN, one after another). `ws_late` moves
  event times back by `seconds`, ahead of the clock when negative. Under `ws_silent` a connection
  stays open, answers pings and requests, and carries nothing else. `ws_disconnect` closes every
  stream of the market once. `ws_restart` closes them too and refuses new ones for `seconds`; then
  ids have jumped, and Bybit's books open with u = 1. `outage` refuses calls and streams until
  switched off. `{"clear": true}` or `DELETE` ends all faults.

For measuring clients, `--stream-rate 10` sends everything but candles ten times as often, and
`--more-coins 6` makes six coins more than the usual ones, which stay as they are.

The world imports nothing of the product and the product imports nothing of it.
"""
