"""Whatever a provider answers: a typed error, counted, nothing stored, the next source asked."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from collectors import clock
from collectors.exchange import (
    Banned,
    GeographicBlock,
    KeyRefused,
    MalformedPayload,
    OutsidePlan,
    ProviderError,
    RateLimited,
    Redirected,
    RequestRefused,
    RequestTimedOut,
    ServerError,
    UnknownSymbol,
)
from collectors.marketdata import to_ms
from collectors.models import Instrument, MacroObservation, Ohlcv, ProviderCallMinute
from collectors.services import collect_macro, ensure_coverage
from collectors.services.providers import candle_source
from tests.collectors.providers import NOW, Answer, Venues, json_answer

HOUR = timedelta(hours=1)
END = NOW.replace(minute=0)
START = END - 4 * HOUR
TIMEOUT_S = 0.4
NAMES = ["binance", "bybit", "coingecko"]
PATHS = {
    "binance": "/binance/fapi/v1/klines",
    "bybit": "/bybit/v5/market/kline",
    "coingecko": "/coingecko/coins/bitcoin/market_chart/range",
}
SYMBOLS = {"binance": "BTCUSDT", "bybit": "BTCUSDT", "coingecko": "bitcoin"}
AT = to_ms(START)
Say = Callable[[str], Answer]


def wrapped(name: str, rows: Any) -> Any:
    """Rows of candles or samples in the envelope of a provider."""
    if name == "bybit":
        return {"retCode": 0, "retMsg": "OK", "result": {"list": rows}}
    return {"prices": rows} if name == "coingecko" else rows


def whole(name: str) -> bytes:
    """An answer as it should be, but for what a case does to it."""
    row: list[Any] = [AT, "1", "2", "0.5", "1.5", "7"] if name != "coingecko" else [AT, 1.5]
    return json.dumps(wrapped(name, [row] * 3)).encode()


def truncated(name: str) -> Answer:
    body = whole(name)
    return 200, {}, body[: len(body) // 2]


def html(name: str) -> Answer:
    return 200, {"Content-Type": "text/html"}, b"<!doctype html><title>Just a moment</title>"


def wrong_types(name: str) -> Answer:
    return json_answer(wrapped(name, [[AT, {}, [], True, "x", "y"]]))


def null_fields(name: str) -> Answer:
    return json_answer(wrapped(name, [[None] * 6]))


def null_list(name: str) -> Answer:
    return json_answer(wrapped(name, None))


def impossible_time(name: str) -> Answer:
    return json_answer(wrapped(name, [[10**17, *[1.0] * (5 if name != "coingecko" else 1)]]))


def null_body(name: str) -> Answer:
    return 200, {}, b"null"


def empty_body(name: str) -> Answer:
    return 200, {}, b""


def error_inside(name: str) -> Answer:
    bodies: dict[str, object] = {
        "binance": {"code": -1100, "msg": "Illegal characters found in a parameter."},
        "bybit": {"retCode": 10001, "retMsg": "params error: limit invalid", "result": {}},
        "coingecko": {"error": "something is not right"},
    }
    return json_answer(bodies[name])


def stall(name: str) -> Answer:
    time.sleep(2 * TIMEOUT_S)
    return 200, {}, whole(name)


def elsewhere(name: str) -> Answer:
    return 302, {"Location": "https://elsewhere.example/page?key=secret"}, whole(name)


def ten_megabytes(name: str) -> Answer:
    return 200, {}, whole(name) + b" " * 10_000_000


def server_error(name: str) -> Answer:
    return 503, {}, b"upstream connect error"


CASES: list[tuple[Say, type[ProviderError]]] = [
    (truncated, MalformedPayload),
    (html, MalformedPayload),
    (wrong_types, MalformedPayload),
    (null_fields, MalformedPayload),
    (null_list, MalformedPayload),
    (impossible_time, MalformedPayload),
    (null_body, MalformedPayload),
    (empty_body, MalformedPayload),
    (error_inside, RequestRefused),
    (stall, RequestTimedOut),
    (elsewhere, Redirected),
    (ten_megabytes, MalformedPayload),
    (server_error, ServerError),
]
EACH = pytest.mark.parametrize(("say", "expected"), CASES, ids=lambda case: case.__name__)
BY_NAME = pytest.mark.parametrize("name", NAMES)

# The providers' own refusals, as they document and as users have met them.
REFUSALS: list[tuple[str, int, object, dict[str, str], type[ProviderError]]] = [
    ("coingecko", 429, {"status": {"error_code": 429, "error_message": "Rate Limit"}},
     {"Retry-After": "53"}, RateLimited),
    ("coingecko", 401, {"error": {"status": {"error_code": 10012, "error_message": "365 days"}}},
     {}, OutsidePlan),
    ("coingecko", 401, {"status": {"error_code": 10002, "error_message": "API Key Missing"}},
     {}, KeyRefused),
    ("coingecko", 422, {"error": "Missing parameter vs_currency"}, {}, RequestRefused),
    ("coingecko", 500, {"status": 500, "error": "Internal Server Error"}, {}, ServerError),
    ("coingecko", 404, {"error": "coin not found"}, {}, UnknownSymbol),
    ("binance", 418, {"code": -1003, "msg": "Way too much; banned until 4102444800000."},
     {}, Banned),
    ("binance", 429, {"code": -1003, "msg": "Too many requests"}, {"Retry-After": "40"},
     RateLimited),
    ("binance", 400, {"code": -1121, "msg": "Invalid symbol."}, {}, UnknownSymbol),
    ("binance", 451, {"code": 0, "msg": "restricted location"}, {}, GeographicBlock),
    ("bybit", 200, {"retCode": 10001, "retMsg": "Not supported symbols", "result": {}},
     {}, UnknownSymbol),
    ("bybit", 200, {"retCode": 10001, "retMsg": "params error: x", "result": {}},
     {}, RequestRefused),
    ("bybit", 200, {"retCode": 10006, "retMsg": "Too many visits."}, {"Retry-After": "30"},
     RateLimited),
]  # fmt: skip


@pytest.fixture(autouse=True)
def impatient(request: pytest.FixtureRequest, settings: Any) -> None:
    """Short pauses; and a short timeout where it is what the case is about, not elsewhere, where a
    slow machine would meet it."""
    settings.RETRY_PAUSE_S = 0.01
    if request.node.callspec.params.get("say") is stall:
        settings.REQUEST_TIMEOUT = TIMEOUT_S


def fetch(name: str) -> None:
    candle_source(name).fetch_candles(SYMBOLS[name], "1h", START, END)


def cover_from(name: str, venues: Venues) -> tuple[Any, str]:
    """Cover bitcoin with `name` as the first source and another, which has it all, behind."""
    other = "bybit" if name == "binance" else "binance"
    venues.add(other, "BTCUSDT", START, END, 100.0)
    bitcoin = Instrument.objects.get(coin_id="bitcoin")
    bitcoin.source_chain = [name, other]
    bitcoin.save()
    done = ensure_coverage(instrument=bitcoin, timeframe="1h", until=clock.now(), start=START)
    return done, other


def counted(name: str) -> tuple[int, int]:
    """The provider's calls and errors in the table."""
    rows = ProviderCallMinute.objects.filter(provider=name)
    return sum(row.calls for row in rows), sum(row.errors for row in rows)


@EACH
@BY_NAME
def test_a_client_says_what_kind_of_wrong_it_is(
    db: None, venues: Venues, name: str, say: Say, expected: type[ProviderError]
) -> None:
    venues.provider.routes[PATHS[name]] = lambda _: say(name)
    with pytest.raises(expected) as caught:
        fetch(name)
    assert "secret" not in str(caught.value)
    calls, errors = counted(name)
    assert calls == errors == len(venues.provider.requests) > 0


@EACH
@BY_NAME
def test_the_next_source_gives_what_the_first_could_not(
    bitcoin: Instrument, venues: Venues, name: str, say: Say, expected: type[ProviderError]
) -> None:
    venues.provider.routes[PATHS[name]] = lambda _: say(name)
    done, other = cover_from(name, venues)
    assert len(done.errors) == 1
    assert done.errors[0].startswith(f"{name} ")
    assert set(Ohlcv.objects.values_list("source", flat=True)) == {other}
    assert Ohlcv.objects.count() == done.stored == 4
    calls, errors = counted(name)
    assert calls == errors > 0
    assert counted(other)[0] > counted(other)[1] == 0


@pytest.mark.parametrize(("name", "status", "body", "headers", "expected"), REFUSALS)
def test_a_refusal_is_an_error_of_its_kind(
    bitcoin: Instrument,
    venues: Venues,
    name: str,
    status: int,
    body: object,
    headers: dict[str, str],
    expected: type[ProviderError],
) -> None:
    answer = (status, headers, json.dumps(body).encode())
    venues.provider.routes[PATHS[name]] = lambda _: answer
    with pytest.raises(ProviderError) as caught:
        fetch(name)
    assert type(caught.value) is expected
    calls, errors = counted(name)
    assert calls == errors == len(venues.provider.requests) > 0
    if expected is RateLimited or expected is Banned:
        return  # a provider that told us to stay away is left alone, which other tests show
    _, other = cover_from(name, venues)
    assert set(Ohlcv.objects.values_list("source", flat=True)) == {other}
    assert Ohlcv.objects.count() == 4


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, b'{"observations": [{"date": "2025-'),
        (200, {}, b"<html>"),
        (200, {}, b'{"observations": null}'),
        (200, {}, b'{"error_code": 400, "error_message": "Bad Request."}'),
        (400, {}, b'{"error_code": 400, "error_message": "Bad Request.  Variable series_id."}'),
        (302, {"Location": "https://elsewhere.example/"}, b""),
        (200, {}, b" " * 10_000_000),
        (500, {}, b""),
    ],
    ids=["truncated", "html", "null", "inside", "refused", "redirect", "10 MB", "500"],
)
def test_macro_answers_that_cannot_be_read_store_nothing(
    bitcoin: Instrument, venues: Venues, answer: Answer
) -> None:
    for path in ("observations", "vintagedates"):
        venues.provider.routes[f"/fred/series/{path}"] = lambda _: answer
    with pytest.raises(ProviderError):
        collect_macro(series_id="VIXCLS")
    assert not MacroObservation.objects.exists()
    calls, errors = counted("fred")
    assert calls == errors > 0
