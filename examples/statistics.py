"""What the stored candles of each instrument look like: how many, return and volatility a year.

.venv/bin/python -m examples.statistics [DAYS]
"""

import sys
from datetime import timedelta

import django


def main(days: int = 30) -> None:
    """Print a line for each collected instrument."""
    import numpy as np

    from collectors import clock
    from collectors.marketdata import floor_time
    from collectors.selectors import candle_history, enabled_instruments

    end = floor_time(clock.now(), "1h")
    coins = [instrument.coin_id for instrument in enabled_instruments()]
    history = candle_history(
        instruments=coins, timeframe="1h", start=end - timedelta(days=days), end=end
    )
    print(f"{'instrument':24} {'candles':>8} {'holes':>6} {'return':>9} {'volatility':>11}")
    for column, coin_id in enumerate(coins):
        there = history.valid[:, column]
        closes = history.close[there, column]
        if len(closes) < 2:
            print(f"{coin_id:24} {len(closes):8}")
            continue
        steps = np.diff(np.log(closes))
        # Crypto trades every hour of the year.
        a_year = steps.std() * np.sqrt(365 * 24)
        change = closes[-1] / closes[0] - 1
        print(f"{coin_id:24} {len(closes):8} {(~there).sum():6} {change:9.2%} {a_year:11.2%}")


if __name__ == "__main__":
    django.setup()
    main(*map(int, sys.argv[1:]))
