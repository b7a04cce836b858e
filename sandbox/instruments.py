"""The coins the world knows: their names at each provider and their sizes. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Listing:
    """One coin. `symbol` is its linear perpetual at both exchanges, None where it has none.

    `price` (USD) and `supply` (coins) are those at the start of a seeded world; `beta` is the
    sensitivity to the market factor and `own_vol` the coin's own daily volatility there.
    `price_decimals` and `step_decimals` are tick and step of the exchanges as powers of ten;
    `spread_bps` is the usual distance of best ask and best bid; `turnover` USD per day.
    """

    coin: str
    name: str
    ticker: str
    symbol: str | None
    price: float
    supply: float
    beta: float
    own_vol: float
    price_decimals: int
    step_decimals: int
    spread_bps: float
    turnover: float
    min_notional: int = 5


def _perpetual(
    coin: str,
    name: str,
    ticker: str,
    price: float,
    supply: float,
    beta: float,
    own_vol: float,
    decimals: tuple[int, int],
    spread_bps: float,
    turnover: float,
    min_notional: int = 5,
) -> Listing:
    return Listing(
        coin,
        name,
        ticker,
        f"{ticker}USDT".upper(),
        price,
        supply,
        beta,
        own_vol,
        *decimals,
        spread_bps,
        turnover,
        min_notional,
    )


TETHER = Listing("tether", "Tether", "usdt", None, 1.0, 1.1e11, 0.0, 0.0, 6, 2, 1.0, 4e10)

SEEDED = (
    _perpetual("bitcoin", "Bitcoin", "btc", 62000, 1.97e7, 1.0, 0.006, (1, 3), 1.0, 1.5e10, 100),
    _perpetual("ethereum", "Ethereum", "eth", 3000, 1.2e8, 1.15, 0.012, (2, 3), 1.0, 9e9, 20),
    _perpetual("solana", "Solana", "sol", 145, 4.6e8, 1.35, 0.022, (3, 2), 1.5, 3e9),
    _perpetual("ripple", "XRP", "xrp", 0.55, 5.5e10, 0.9, 0.02, (5, 1), 2.0, 1e9),
    _perpetual("bittensor", "Bittensor", "tao", 420, 7.1e6, 1.4, 0.035, (2, 3), 3.0, 1.5e8),
    _perpetual("fetch-ai", "Fetch.ai", "fet", 1.6, 2.5e9, 1.4, 0.035, (4, 0), 3.0, 2e8),
    _perpetual(
        "singularitynet", "SingularityNET", "agix", 0.75, 1.3e9, 1.4, 0.036, (5, 0), 4.0, 1e8
    ),
    _perpetual("render-token", "Render", "render", 8.0, 3.9e8, 1.4, 0.03, (4, 1), 3.0, 2e8),
    _perpetual(
        "ocean-protocol", "Ocean Protocol", "ocean", 0.85, 5.7e8, 1.3, 0.034, (5, 0), 4.0, 6e7
    ),
    _perpetual("binancecoin", "BNB", "bnb", 580, 1.47e8, 0.85, 0.012, (2, 2), 1.0, 1e9),
    _perpetual("cardano", "Cardano", "ada", 0.45, 3.56e10, 1.1, 0.02, (5, 0), 2.0, 4e8),
    _perpetual("polkadot", "Polkadot", "dot", 6.5, 1.4e9, 1.15, 0.02, (3, 1), 2.5, 2e8),
    _perpetual("dogecoin", "Dogecoin", "doge", 0.14, 1.44e11, 1.25, 0.028, (5, 0), 2.0, 1e9),
    _perpetual("chainlink", "Chainlink", "link", 14.0, 5.9e8, 1.15, 0.022, (3, 2), 2.0, 3e8),
)

# Coins without a part in the seeded world whose history may be replayed.
REPLAYED_ONLY = (
    _perpetual("avalanche-2", "Avalanche", "avax", 27, 3.9e8, 1.3, 0.025, (3, 0), 2.5, 3e8),
    _perpetual("litecoin", "Litecoin", "ltc", 80, 7.4e7, 1.0, 0.018, (2, 3), 2.0, 4e8),
    _perpetual("uniswap", "Uniswap", "uni", 8, 6e8, 1.2, 0.025, (4, 0), 3.0, 1.5e8),
    _perpetual("near", "NEAR Protocol", "near", 5, 1.1e9, 1.3, 0.028, (3, 0), 3.0, 2e8),
    _perpetual("the-graph", "The Graph", "grt", 0.2, 9.5e9, 1.3, 0.03, (5, 0), 4.0, 8e7),
    _perpetual("cosmos", "Cosmos Hub", "atom", 7, 3.9e8, 1.1, 0.022, (3, 2), 3.0, 1e8),
    _perpetual("tron", "TRON", "trx", 0.12, 8.7e10, 0.7, 0.015, (5, 0), 2.5, 3e8),
    _perpetual("stellar", "Stellar", "xlm", 0.1, 2.9e10, 0.9, 0.02, (5, 0), 3.0, 1e8),
)


def listing_of(coin: str) -> Listing:
    """The listing of a coin id; an unknown coin is one without a perpetual."""
    for listing in (*SEEDED, *REPLAYED_ONLY, TETHER):
        if listing.coin == coin:
            return listing
    name = coin.replace("-", " ").title()
    return Listing(coin, name, coin[:5], None, 1.0, 1e9, 1.0, 0.03, 6, 2, 4.0, 1e8)
