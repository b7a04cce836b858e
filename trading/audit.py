"""What an account's fills make of its positions, and what does not agree. Pure.

The fills are replayed one by one through the functions that booked them; everything else is a
comparison of sums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from trading.accounting import apply_fill
from trading.orders import Grid

MOST_NAMED = 20  # differences of one kind


class FilledRow(NamedTuple):
    """A fill as it was booked: `side` 1 or -1, `fee` and `realised` in money units."""

    fill_id: int
    instrument_id: int
    side: int
    steps: int
    ticks: int
    tick_size: str
    quantity_step: str
    fee: int
    realised: int


class Held(NamedTuple):
    """What the books say is held: signed steps, signed cost and realised PnL in money units."""

    quantity: int
    total_cost: int
    realised: int


class Difference(NamedTuple):
    """Two figures that should be one."""

    subject: str
    found: int | Held
    expected: int | Held

    @property
    def text(self) -> str:
        """In words."""
        found, expected = _said(self.found), _said(self.expected)
        return f"{self.subject}: {found}, but what is booked makes {expected}"

    @property
    def key(self) -> str:
        """What stays the same while the books go on with the same fault in them."""
        if isinstance(self.found, Held) and isinstance(self.expected, Held):
            gaps = [a - b for a, b in zip(self.found, self.expected, strict=True)]
        elif isinstance(self.found, int) and isinstance(self.expected, int):
            gaps = [self.found - self.expected]
        else:
            gaps = []
        return f"{self.subject}:{gaps}"


NOTHING = Held(0, 0, 0)


class Replayed(NamedTuple):
    """What all fills of an account make: by instrument what is held and the fees in money units;
    and the fills whose realised PnL comes out otherwise."""

    held: dict[int, Held]
    fees: dict[int, int]
    wrong: list[Difference]


def replay(fills: Iterable[FilledRow]) -> Replayed:
    """Book all fills of an account again, oldest first."""
    books: dict[int, Held] = {}
    fees: dict[int, int] = {}
    wrong: list[Difference] = []
    grids: dict[tuple[str, str], Grid] = {}
    for fill in fills:
        sizes = (fill.tick_size, fill.quantity_step)
        grid = grids.get(sizes)
        if grid is None:
            grid = grids[sizes] = Grid.of(*sizes)
        before = books.get(fill.instrument_id, NOTHING)
        quantity, cost, gained = apply_fill(
            before.quantity,
            before.total_cost,
            fill.side * fill.steps,
            fill.ticks,
            grid.unit_num,
            grid.unit_den,
        )
        books[fill.instrument_id] = Held(quantity, cost, before.realised + gained)
        fees[fill.instrument_id] = fees.get(fill.instrument_id, 0) + fill.fee
        if gained != fill.realised and len(wrong) < MOST_NAMED:
            wrong.append(Difference(f"realised PnL of fill {fill.fill_id}", fill.realised, gained))
    return Replayed(books, fees, wrong)


def compare_positions(found: Mapping[int, Held], expected: Mapping[int, Held]) -> list[Difference]:
    """The instruments whose position is not what its fills make."""
    return [
        Difference(
            f"position in instrument {instrument_id}",
            found.get(instrument_id, NOTHING),
            expected.get(instrument_id, NOTHING),
        )
        for instrument_id in sorted(found.keys() | expected.keys())
        if found.get(instrument_id, NOTHING) != expected.get(instrument_id, NOTHING)
    ]


def fingerprint(differences: Iterable[Difference]) -> str:
    """32 hexadecimal digits that name a set of differences."""
    said = "\n".join(sorted(difference.key for difference in differences))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _said(value: int | Held) -> str:
    return str(tuple(value)) if isinstance(value, Held) else str(value)
