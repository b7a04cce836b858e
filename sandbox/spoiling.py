"""What the faults of streams make of a message: cut, garbage, foreign, crossed, absurd, late. Pure.

A spoilt message takes the place of the true one, which is lost.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from sandbox.topics import Kind, Topic

BOOKS = (Kind.DEPTH, Kind.PARTIAL_DEPTH, Kind.TOP)
SIDES = ("b", "a", "bids", "asks")
# The first of these that a message has is its price.
PRICES = ("b", "p", "c", "bid1Price", "lastPrice", "markPrice", "high", "h")
ABSURD = ("-1", "0", "1e308", "NaN", "", "Infinity", "1" * 400)
STRANGERS = ("BTCUSDT", "ETHUSDT")
CLOCK_FIELDS = ("E", "T", "ts", "cts")
# T stands beside E for the transaction; further away it is another moment.
NEAR_MS = 5000
NESTED = 20_000


@dataclass(frozen=True)
class Outgoing:
    """A message on its way out: its text, whether combined streams wrap it, whether it is cut."""

    text: str
    is_wrapped: bool = True
    is_cut: bool = False

    def plain(self) -> str:
        """The message as a plain stream carries it."""
        return self.text[: len(self.text) // 2] if self.is_cut else self.text

    def wrapped(self, name: str) -> str:
        """The message as Binance's combined streams carry it."""
        if not self.is_wrapped:
            return self.text
        text = f'{{"stream":"{name}","data":{self.text}}}'
        return text[: len(text) // 2] if self.is_cut else text


def can_spoil(kind: str, topic: Topic, message: Outgoing) -> bool:
    """Whether a fault means anything to a message; only then is it used up."""
    if message.is_cut or not message.is_wrapped:
        return False
    match kind:
        case "ws_crossed":
            return topic.kind in BOOKS
        case "ws_wrong_symbol":
            return f'"{topic.symbol}"' in message.text
        case "ws_late":
            return '"E":' in message.text or '"ts":' in message.text
    return True


def spoil(kind: str, topic: Topic, message: Outgoing, seconds: float, number: int) -> Outgoing:
    """What the fault makes of a message it can spoil; `number` chooses among several ways."""
    match kind:
        case "ws_truncate":
            return Outgoing(message.text, is_cut=True)
        case "ws_garbage":
            texts = _garbage(topic)
            return Outgoing(texts[number % len(texts)], is_wrapped=False)
        case "ws_wrong_symbol":
            stranger = STRANGERS[topic.symbol == STRANGERS[0]]
            return Outgoing(message.text.replace(f'"{topic.symbol}"', f'"{stranger}"'))
    content = msgspec.json.decode(message.text)
    match kind:
        case "ws_crossed":
            _cross(topic, _body(content))
        case "ws_absurd":
            _distort(_body(content), ABSURD[number % len(ABSURD)])
        case "ws_late":
            _shift(content, -round(seconds * 1000))
    return Outgoing(msgspec.json.encode(content).decode())


def _garbage(topic: Topic) -> tuple[str, ...]:
    """Hostile messages: no JSON, endless nesting, and the right names with the wrong types."""
    name = topic.name
    return (
        "",
        "null",
        "[]",
        "7",
        "NaN",
        "\x00\ufffd no JSON",
        '{"stream":',
        "[" * NESTED,
        '{"data":' * NESTED + "1" + "}" * NESTED,
        '{"e":"depthUpdate","E":"soon","s":7,"U":null,"u":[],"pu":{},"b":"x","a":{"0":[]}}',
        f'{{"stream":"{name}","data":{{"e":"depthUpdate","u":1e400,"b":[[1]],"a":[["x"]]}}}}',
        f'{{"stream":"{name}","data":[]}}',
        f'{{"topic":"{name}","type":"delta","ts":"now","data":{{"b":[[1,2,3]],"a":null,"u":-1}}}}',
        f'{{"topic":"{name}","type":7,"data":[[[]]]}}',
        '{"topic":["x"],"type":{},"data":0}',
        '{"result":{},"id":[]}',
    )


def _body(content: dict[str, Any]) -> dict[str, Any]:
    """The part of a message that holds prices."""
    body = content.get("data", content.get("k", content))
    if isinstance(body, list):
        body = body[0]
    return body  # type: ignore[no-any-return]


def _cross(topic: Topic, body: dict[str, Any]) -> None:
    """Bid above everything that is asked: a book message can say so in one level."""
    if topic.kind is Kind.TOP:
        body["b"], body["a"] = body["a"], body["b"]
        return
    bids, asks = (body[name] for name in SIDES if name in body)
    highest = max((row[0] for row in (*bids, *asks)), key=float, default="1")
    decimals = len(highest.partition(".")[2])
    crossing = [f"{float(highest) * 1.03:.{decimals}f}", "1"]
    if topic.size == 1:
        bids.clear()
    bids.insert(0, crossing)


def _distort(body: dict[str, Any], price: str) -> None:
    """Put an absurd price in the place of a true one."""
    for name in SIDES:
        if isinstance(body.get(name), list):
            body[name].insert(0, [price, "1"])
            return
    for name in PRICES:
        if isinstance(body.get(name), str):
            body[name] = price
            return


def _shift(content: dict[str, Any], by_ms: int) -> None:
    """Move the event times of a message; a time far from them is another moment."""
    stamp = content.get("E", content.get("ts"))
    if not isinstance(stamp, int):
        return
    rows = content["data"] if isinstance(content.get("data"), list) else []
    for part in (content, *rows):
        # Beside a funding rate, T is the funding time.
        for name in CLOCK_FIELDS[:1] if "r" in part else CLOCK_FIELDS:
            moment = part.get(name)
            if isinstance(moment, int) and abs(moment - stamp) <= NEAR_MS:
                part[name] = moment + by_ms
