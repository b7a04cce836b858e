"""A loopback world that speaks the real protocols of CoinGecko, FRED, Binance and Bybit.

One port carries all four providers, below the prefixes `/coingecko/api/v3`, `/fred/fred`,
`/binance` and `/bybit`, WebSockets included. Everything served comes from one world: one-minute
price paths that meet hourly candles exactly, seeded or replayed from CSV history.

The control surface, for tests and demonstrations:

- `GET /control/world`: seed, start, speed, market time, instruments, known macro series.
- `GET /control/requests`: what was asked, per provider and endpoint, and how often a call broke
  the provider's limit.
- `GET /control/book?exchange=binance&symbol=BTCUSDT`: the whole book as the world knows it.
- `GET`, `POST`, `DELETE /control/faults`: faults per provider (`coingecko`, `fred`, `binance`,
  `bybit`). A fault is `true` (until cleared), `false` (off) or an object:

      {"binance": {
          "rate_limit":    {"retry_after": 5, "next": 3, "endpoint": "klines"},
          "server_error":  {"status": 503, "next": 2},
          "timeout":       {"seconds": 40, "next": 1},
          "malformed":     true,
          "ws_drop":       {"next": 1, "stream": "depth"},
          "ws_duplicate":  {"probability": 0.05},
          "ws_reorder":    {"next": 1},
          "ws_disconnect": true,
          "outage":        true}}

  `next` counts the calls or messages hit before the fault ends; `probability` (0 to 1) hits a
  share of them; `endpoint` and `stream` narrow a fault to names that contain the text.
  `ws_disconnect` closes every stream of the provider once. `outage` refuses its calls with 503
  and its streams until switched off. `{"clear": true}` or `DELETE` ends all faults.

The world imports nothing of the product and the product imports nothing of it.
"""
