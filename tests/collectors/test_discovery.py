"""New coins by market cap, and what the exchanges' lists say of our listings."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from collectors.exchange import ProviderError
from collectors.models import Instrument, Listing
from collectors.services import discover_instruments, refresh_listings
from tests.collectors.providers import Answer, Provider, Venues, json_answer


def binance_symbol(base: str, **changed: str) -> dict[str, Any]:
    said = {"tick": "0.10", "step": "0.001", "least": "100", "status": "TRADING"} | changed
    return {
        "symbol": f"{base}USDT",
        "contractType": "PERPETUAL",
        "status": said["status"],
        "baseAsset": base,
        "quoteAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": said["tick"]},
            {"filterType": "LOT_SIZE", "stepSize": said["step"]},
            {"filterType": "MIN_NOTIONAL", "notional": said["least"]},
        ],
    }


def bybit_symbol(base: str) -> dict[str, Any]:
    return {
        "symbol": f"{base}USDT",
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": base,
        "quoteCoin": "USDT",
        "priceFilter": {"tickSize": "0.1"},
        "lotSizeFilter": {"qtyStep": "0.001", "minNotionalValue": "100"},
    }


@pytest.fixture
def lists(venues: Venues, bitcoin: Instrument) -> Provider:
    """Exchanges and CoinGecko that list bitcoin, a new coin and one that nobody trades."""
    Instrument.objects.exclude(coin_id="bitcoin").update(is_enabled=False)
    provider = venues.provider
    serve_binance(provider, binance_symbol("BTC"), binance_symbol("NEW"))
    rows = [bybit_symbol("BTC"), bybit_symbol("NEW")]
    provider.routes["/bybit/v5/market/instruments-info"] = lambda _: json_answer(
        {"retCode": 0, "retMsg": "OK", "result": {"list": rows, "nextPageCursor": ""}}
    )
    coins = [("bitcoin", "btc"), ("new-coin", "new"), ("lonely", "lone"), ("fourth", "fth")]

    def markets(params: dict[str, str]) -> Answer:
        found = [{"id": coin, "symbol": ticker, "name": coin.title()} for coin, ticker in coins]
        return json_answer(found[: int(params["per_page"])])

    provider.routes["/coingecko/coins/markets"] = markets
    return provider


def serve_binance(provider: Provider, *rows: dict[str, Any]) -> None:
    provider.routes["/binance/fapi/v1/exchangeInfo"] = lambda _: json_answer({"symbols": rows})


def test_the_top_is_registered_and_kept_from_strategies(lists: Provider) -> None:
    assert discover_instruments() == ["new-coin", "lonely"]
    new = Instrument.objects.get(coin_id="new-coin")
    assert (new.symbol, new.tier, new.timeframes) == ("NEW", "hourly", ["1h"])
    assert new.is_enabled
    assert not new.is_strategy_enabled
    assert new.source_chain == ["binance", "bybit", "coingecko"]
    listed = new.listings.values_list("exchange", "symbol", "tick_size", "quantity_step")
    assert list(listed) == [
        ("binance", "NEWUSDT", "0.1", "0.001"),
        ("bybit", "NEWUSDT", "0.1", "0.001"),
    ]
    lonely = Instrument.objects.get(coin_id="lonely")
    assert (lonely.source_chain, lonely.listings.count()) == (["coingecko"], 0)
    assert not Instrument.objects.filter(coin_id="fourth").exists()


def test_a_second_look_costs_one_call_and_changes_nothing(lists: Provider) -> None:
    discover_instruments()
    Instrument.objects.filter(coin_id="new-coin").update(is_strategy_enabled=True)
    before = len(lists.requests)
    assert discover_instruments() == []
    assert len(lists.requests) == before + 1
    assert Instrument.objects.get(coin_id="new-coin").is_strategy_enabled


def test_without_coingecko_nothing_is_discovered(lists: Provider, settings: Any) -> None:
    settings.CANDLE_SOURCES = ("binance",)
    assert discover_instruments() == []
    assert lists.requests == []


def test_a_failing_coingecko_registers_nothing(lists: Provider) -> None:
    lists.routes["/coingecko/coins/markets"] = lambda _: (200, {}, b'{"error":"no"}')
    before = Instrument.objects.count()
    with pytest.raises(ProviderError):
        discover_instruments()
    assert Instrument.objects.count() == before


def test_a_changed_grid_is_stored(lists: Provider) -> None:
    assert refresh_listings().changed == 0
    serve_binance(lists, binance_symbol("BTC", tick="0.01", least="50"))
    assert refresh_listings().changed == 1
    binance = Listing.objects.get(instrument__coin_id="bitcoin", exchange="binance")
    assert (binance.tick_size, binance.quantity_step) == ("0.01", "0.001")
    assert binance.min_notional == "50"
    assert Listing.objects.get(instrument__coin_id="bitcoin", exchange="bybit").tick_size == "0.1"
    assert refresh_listings().changed == 0


@pytest.mark.parametrize(
    "rows", [[binance_symbol("BTC", status="SETTLING")], [binance_symbol("X")]]
)
def test_a_symbol_that_does_not_trade_is_marked(lists: Provider, rows: list[Any]) -> None:
    serve_binance(lists, *rows)
    assert refresh_listings().changed == 1
    listing = Listing.objects.get(instrument__coin_id="bitcoin", exchange="binance")
    assert (listing.is_trading, listing.valid_to) == (False, None)
    serve_binance(lists, binance_symbol("BTC"))
    assert refresh_listings().changed == 1
    listing.refresh_from_db()
    assert listing.is_trading


@pytest.mark.parametrize("body", [b"<html>", b'{"symbols":[]}', b'{"symbols":[{"symbol":1}]}'])
def test_a_list_that_cannot_be_read_changes_nothing(lists: Provider, body: bytes) -> None:
    lists.routes["/binance/fapi/v1/exchangeInfo"] = lambda _: (200, {}, body)
    before = list(Listing.objects.values())
    done = refresh_listings()
    assert (done.changed, done.added, len(done.errors)) == (0, 0, 1)
    assert list(Listing.objects.values()) == before


def test_spot_listings_are_found_where_spot_is_asked_for(lists: Provider, settings: Any) -> None:
    settings.CANDLE_SOURCES = ("binance", "binance_spot")
    spot = binance_symbol("BTC", tick="0.01")
    del spot["contractType"]
    lists.routes["/binance/api/v3/exchangeInfo"] = lambda _: json_answer({"symbols": [spot]})
    assert refresh_listings().added == 1
    found = Listing.objects.get(instrument__coin_id="bitcoin", exchange="binance_spot")
    assert (found.symbol, found.tick_size) == ("BTCUSDT", "0.01")
    assert refresh_listings().added == 0


def test_collect_discovery_registers_coins_and_follows_the_lists(lists: Provider) -> None:
    out = StringIO()
    call_command("collect", "discovery", "--json", stdout=out)
    (told,) = json.loads(out.getvalue())
    assert told["registered"] == ["new-coin", "lonely"]
    assert told["listings_changed"] == 0
    assert told["errors"] == []
    lists.routes["/coingecko/coins/markets"] = lambda _: json_answer({}, 404)
    out, errors = StringIO(), StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command("collect", "discovery", "--json", stdout=out, stderr=errors)
    assert caught.value.code == 1
    assert json.loads(out.getvalue())[0]["registered"] == []
    assert errors.getvalue().count("\n") == 1
