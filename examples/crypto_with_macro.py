"""How an instrument's daily moves went with those of macro series, as they were known then.

.venv/bin/python -m examples.crypto_with_macro [COIN_ID]
"""

import sys
from datetime import timedelta

import django

SERIES = ("VIXCLS", "DGS10", "DTWEXBGS")


def main(coin_id: str = "bitcoin") -> None:
    """Print the correlation with each series over the last 60 days."""
    from collectors import clock
    from collectors.marketdata import floor_time
    from collectors.selectors import market_frame

    end = floor_time(clock.now(), "1d")
    frame = market_frame(
        instrument=coin_id, start=end - timedelta(days=60), end=end, timeframe="1d", macro=SERIES
    )
    for series in SERIES:
        # Days on which a new value was out: a carried one does not move.
        known = frame[frame["valid"] & frame[f"{series}_known"]]
        moves = known[["close", series]].pct_change().dropna()
        moves = moves[moves[series] != 0.0]
        if len(moves) < 3:
            print(f"{series:10} {len(moves)} moves are too few")
            continue
        print(f"{series:10} {moves['close'].corr(moves[series]):+.2f} over {len(moves)} moves")


if __name__ == "__main__":
    django.setup()
    main(*sys.argv[1:])
