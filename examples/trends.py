"""Where each instrument stands to its averages of 20 and 50 days, from daily candles.

.venv/bin/python -m examples.trends
"""

from datetime import timedelta

import django

SHORT, LONG = 20, 50


def main() -> None:
    """Print a line for each collected instrument. Daily candles are made from hourly ones."""
    from collectors import clock
    from collectors.marketdata import floor_time
    from collectors.selectors import candle_history, enabled_instruments

    end = floor_time(clock.now(), "1d")
    coins = [instrument.coin_id for instrument in enabled_instruments()]
    days = candle_history(
        instruments=coins, timeframe="1d", start=end - timedelta(days=LONG), end=end
    )
    for column, coin_id in enumerate(coins):
        closes = days.close[days.valid[:, column], column]
        if len(closes) < SHORT:
            print(f"{coin_id:24} only {len(closes)} whole days")
            continue
        short, long = closes[-SHORT:].mean(), closes.mean()
        trend = "up" if closes[-1] > short > long else "down" if closes[-1] < short < long else "-"
        print(f"{coin_id:24} {closes[-1]:14.4f} {short:14.4f} {long:14.4f} {trend}")


if __name__ == "__main__":
    django.setup()
    main()
