"""What a person asks for, brought onto the grid of its venue: exact, or refused with the reason.

Refused     the order cannot be carried out; the caller writes why and nothing else
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from risk.assessment import ABSURD_PRICE
from trading.accounting import notional
from trading.exact import OffGridError, exact_steps, exact_ticks, steps_within
from trading.models import Account, OrderKind, OrderLeg, Position, TimeInForce
from trading.orders import Grid, OrderError
from trading.services.booking import MANUAL
from trading.services.placing import Ticket
from trading.services.protection import first_judged_bar
from trading.services.quotes import Offer
from trading.services.venues import NOT_TRADING, Venue, holding_venue
from trading.simulator import meets_minimum
from trading.ticks import adverse_ticks

# A wish that nobody takes back in a year is forgotten by who had it.
LONGEST = timedelta(days=366)

# Which prices each kind of order needs; it takes no others.
NEEDS: Mapping[str, frozenset[str]] = {
    OrderKind.MARKET: frozenset(),
    OrderKind.LIMIT: frozenset({"limit_price"}),
    OrderKind.STOP: frozenset({"trigger_price"}),
    OrderKind.STOP_LIMIT: frozenset({"limit_price", "trigger_price"}),
    OrderKind.TRAILING_STOP: frozenset({"trail"}),
}
# A trailing stop may also have a trigger: the stop that holds until the trail has passed it.
ALLOWS = {**NEEDS, OrderKind.TRAILING_STOP: frozenset({"trail", "trigger_price"})}


class Refused(Exception):
    """Why an order by a person is not placed: a `code`, a sentence, and the fields at fault.

    `draft` is set where it was risk that refused it.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        fields: Mapping[str, list[str]] | None = None,
        facts: Mapping[str, Any] | None = None,
        draft: Drafted | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fields = dict(fields or {})
        self.facts = dict(facts or {})
        self.draft = draft


@dataclass(frozen=True, kw_only=True)
class Terms:
    """When and at what an order trades; `trail` is a distance in quote units."""

    kind: str = OrderKind.MARKET
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    trail: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class HandOrder:
    """What a person wants. `side` is 1 (buy) or -1 (sell).

    The size is a `quantity` in base units or a `notional` in quote units, which is floored to whole
    steps; a `reduce_only` order without either is for all that is held. With two terms one order
    cancels the other. `stop_loss` and `take_profit` are for the position that an entry opens.
    What has a `key` is placed once in an account, however often it is asked for.
    """

    coin_id: str
    side: int
    terms: tuple[Terms, ...] = field(default_factory=lambda: (Terms(),))
    quantity: Decimal | None = None
    notional: Decimal | None = None
    time_in_force: str = TimeInForce.GTC
    expires_at: datetime | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    reduce_only: bool = False
    placed_by: str = ""
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Drafted:
    """A ticket with the price it is expected to fill at, where, and the stop and target asked for
    the position that it opens (quote units, on the grid)."""

    ticket: Ticket
    venue: Venue
    expected_ticks: int
    stop_loss: float | None
    take_profit: float | None


def draft_tickets(
    *, account: Account, position: Position | None, asked: HandOrder, offer: Offer
) -> list[Drafted]:
    """The tickets of an order by hand, one for each of its terms, without stop and target.

    Whatever is against the position and no larger is a close, which can never turn it. Raises
    Refused.
    """
    held = position.quantity_steps if position is not None else 0
    is_opposite = held * asked.side < 0
    if asked.reduce_only and not is_opposite:
        raise Refused("nothing_to_reduce", "nothing is held that this order would reduce")
    venue = _venue_for(account, position if is_opposite else None, offer)
    _check_kinds(asked)
    expiry = _expiry(asked, offer.now)
    drafts = []
    for terms in asked.terms:
        prices = _ticks_of(terms, venue.grid)
        expected = _expected_ticks(terms, prices, asked.side, offer, venue)
        steps = _steps_of(asked, expected, abs(held) if is_opposite else 0, venue.grid)
        if asked.reduce_only:
            steps = min(steps, abs(held))
        elif is_opposite and steps > abs(held):
            has = venue.grid.quantity_text(abs(held))
            raise Refused(
                "would_turn",
                f"{has} is held the other way: order at most that, close it first, or reduce_only",
                facts={"held_quantity": has},
            )
        leg = OrderLeg.CLOSE if is_opposite else OrderLeg.OPEN
        _check_size(steps, expected, venue, leg)
        ticket = Ticket(
            leg=leg,
            side=asked.side,
            steps=steps,
            kind=terms.kind,
            limit_ticks=prices.get("limit_price"),
            trigger_ticks=prices.get("trigger_price"),
            trail_ticks=prices.get("trail"),
            time_in_force=TimeInForce.GTD if expiry else asked.time_in_force,
            expires_at=expiry,
            reason=MANUAL,
            placed_by=asked.placed_by,
            judged_from=first_judged_bar(filled_at=offer.now, timeframe=account.timeframe),
        )
        drafts.append(
            Drafted(
                ticket=ticket,
                venue=venue,
                expected_ticks=expected,
                stop_loss=_level(asked.stop_loss, "stop_loss", leg, venue.grid),
                take_profit=_level(asked.take_profit, "take_profit", leg, venue.grid),
            )
        )
    return drafts


def _level(price: Decimal | None, name: str, leg: str, grid: Grid) -> float | None:
    """A stop or target as the double of its tick."""
    if price is None:
        return None
    if leg != OrderLeg.OPEN:
        raise _wrong(name, "only an order that opens a position has one")
    return grid.price(_exact(price, grid, name))


def _venue_for(account: Account, position: Position | None, offer: Offer) -> Venue:
    if position is not None:
        if offer.venue is not None:
            return offer.venue.on_grid_of(position)
        return holding_venue(position=position, exchange=account.exchange, at=offer.now)
    if offer.venue is None:
        raise Refused("no_listing", f"{account.exchange} does not list it")
    if not offer.venue.is_trading:
        raise Refused(NOT_TRADING, f"{account.exchange} does not trade it")
    return offer.venue


def _check_kinds(asked: HandOrder) -> None:
    if len(asked.terms) > 1 and any(terms.kind == OrderKind.MARKET for terms in asked.terms):
        raise _wrong("oco", "a market order is done at once: nothing could cancel it")
    if not asked.reduce_only and (asked.quantity is None) == (asked.notional is None):
        raise _wrong("quantity", "give either quantity or notional")
    if asked.quantity is not None and asked.notional is not None:
        raise _wrong("quantity", "give either quantity or notional")
    for terms in asked.terms:
        given = {name for name in ("limit_price", "trigger_price", "trail") if _of(terms, name)}
        for name in sorted(NEEDS[terms.kind] - given):
            raise _wrong(name, f"a {terms.kind} order needs it")
        for name in sorted(given - ALLOWS[terms.kind]):
            raise _wrong(name, f"a {terms.kind} order has none")


def _expiry(asked: HandOrder, now: datetime) -> datetime | None:
    if asked.expires_at is None:
        if asked.time_in_force == TimeInForce.GTD:
            raise _wrong("expires_at", "an order good till a date needs it")
        return None
    if asked.time_in_force == TimeInForce.IOC:
        raise _wrong("expires_at", "an immediate order has none")
    if not now < asked.expires_at <= now + LONGEST:
        raise _wrong("expires_at", f"after {now:%Y-%m-%dT%H:%M:%SZ}, within a year of market time")
    return asked.expires_at


def _ticks_of(terms: Terms, grid: Grid) -> dict[str, int]:
    return {
        name: _exact(price, grid, name)
        for name in ("limit_price", "trigger_price", "trail")
        if (price := _of(terms, name)) is not None
    }


def _expected_ticks(
    terms: Terms, prices: Mapping[str, int], side: int, offer: Offer, venue: Venue
) -> int:
    """What the order is expected to fill at, or the worst that it lets happen."""
    if "limit_price" in prices:
        return prices["limit_price"]
    if terms.kind == OrderKind.STOP:
        return prices["trigger_price"]
    if offer.quote is None:
        raise Refused("no_quote", "there is no fresh quote to trade at: try again")
    if terms.kind == OrderKind.MARKET:
        return offer.ticks(side, venue)
    grid = venue.grid
    touch = offer.quote.best_ask if side > 0 else offer.quote.best_bid
    trailed = adverse_ticks(side, touch, grid.tick_num, grid.tick_den) + side * prices["trail"]
    return max(trailed, 1)


def _steps_of(asked: HandOrder, ticks: int, held: int, grid: Grid) -> int:
    if asked.quantity is not None:
        _check_amount(asked.quantity, "quantity")
        try:
            return exact_steps(asked.quantity, grid)
        except OffGridError as error:
            raise _wrong("quantity", str(error)) from None
    if asked.notional is not None:
        _check_amount(asked.notional, "notional")
        steps = steps_within(asked.notional, ticks, grid)
        if steps == 0:
            least = grid.step_notional(ticks)
            raise _wrong("notional", f"less than one step, which is worth {least:.8g}")
        return steps
    return held


def _check_size(steps: int, ticks: int, venue: Venue, leg: str) -> None:
    grid = venue.grid
    try:
        is_enough = meets_minimum(steps, ticks, venue.min_notional, leg == OrderLeg.CLOSE, grid)
        worth = notional(steps, ticks, grid.unit_num, grid.unit_den)
        if steps * ticks > 2**63 - 1 or worth > 2**63 - 1:
            raise _wrong("quantity", "worth more than the books count")
    except OrderError as error:
        raise _wrong("quantity", str(error)) from None
    if not is_enough:
        raise _wrong("quantity", f"worth less than the venue's minimum of {venue.min_notional:g}")


def _exact(price: Decimal, grid: Grid, name: str) -> int:
    _check_amount(price, name)
    try:
        return exact_ticks(price, grid)
    except OffGridError as error:
        raise _wrong(name, str(error)) from None


def _check_amount(value: Decimal, name: str) -> None:
    if not (value.is_finite() and 0 < value < Decimal(ABSURD_PRICE)):
        raise _wrong(name, f"a number above 0 and below {ABSURD_PRICE:g}")


def _of(terms: Terms, name: str) -> Decimal | None:
    value: Decimal | None = getattr(terms, name)
    return value


def _wrong(name: str, message: str) -> Refused:
    return Refused("invalid", "the request is not valid", fields={name: [message]})
