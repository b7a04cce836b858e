"""Reads of an account's books from the bottom: does all that is derived agree with what is booked?

No lock is taken. Fill, transaction, entries and position are written in one transaction under the
account's lock, so that every single statement sees them agree; and what is read in a second
statement (the fills up to the newest that the first one saw) never changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import BigIntegerField, F, Max, Model, OuterRef, Q, Subquery, Sum, Value
from django.db.models.functions import Cast, Coalesce

from trading.audit import MOST_NAMED, Difference, FilledRow, Held, compare_positions, replay
from trading.fields import from_units
from trading.models import (
    Account,
    Book,
    Fill,
    FundingPayment,
    LedgerEntry,
    LedgerTransaction,
    Order,
    OrderStatus,
    Position,
    Side,
    Trade,
    TransactionKind,
)


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """The books recomputed from their entries; no `differences` when they add up."""

    cash: Decimal
    entries_total: Decimal
    differences: tuple[Difference, ...]

    @property
    def mismatches(self) -> tuple[str, ...]:
        """The differences in words."""
        return tuple(difference.text for difference in self.differences)


def audit_books(*, account_id: int) -> Reconciliation:
    """Add up the ledger, replay every fill, and compare all that was derived from them.

    Raises Account.DoesNotExist.
    """
    totals = _totals(account_id)
    differences = [
        Difference(subject, totals[found], totals[expected])
        for subject, found, expected in (
            ("cash of the account", "cash", "cash_entries"),
            ("sum of all entries", "all_entries", "nothing"),
            ("fees of the fills", "fill_fees", "fee_entries"),
            ("funding payments", "funding_paid", "funding_entries"),
        )
        if totals[found] != totals[expected]
    ]
    differences += _wrong_transactions(account_id)
    differences += _wrong_orders(account_id)
    differences += _wrong_positions(account_id)
    return Reconciliation(
        cash=from_units(totals["cash"]),
        entries_total=from_units(totals["cash_entries"]),
        differences=tuple(differences),
    )


def _units(expression: Any) -> Any:
    """Money as the integer that the database holds."""
    return Cast(expression, BigIntegerField())


def _sum_of(model: type[Model], amount: str, **where: Any) -> Any:
    """The sum over a model's rows in money units, as a part of another statement."""
    rows = model._default_manager.filter(**where).order_by()
    sums = rows.annotate(group=Value(1)).values("group").annotate(sum=Sum(amount)).values("sum")
    return _units(Coalesce(Subquery(sums), 0, output_field=BigIntegerField()))


def _totals(account_id: int) -> dict[str, int]:
    """Everything that is one sum, from one statement."""
    own = OuterRef("pk")
    entries = {
        f"{name}_entries": _sum_of(LedgerEntry, "amount", account=own, book=book)
        for name, book in (("cash", Book.CASH), ("fee", Book.FEES), ("funding", Book.FUNDING))
    }
    names = ("pk", "units", "all_entries", "fill_fees", "funding_paid", *entries)
    found = (
        Account.objects.filter(pk=account_id)
        .annotate(
            units=_units(F("cash")),
            all_entries=_sum_of(LedgerEntry, "amount", account=own),
            fill_fees=_sum_of(Fill, "fee", account=own),
            funding_paid=_sum_of(FundingPayment, "amount", account=own),
            **entries,
        )
        .values(*names)
        .get()
    )
    # What was received is a credit of its book.
    found["funding_entries"] = -found["funding_entries"]
    return {**found, "cash": found["units"], "nothing": 0}


def _wrong_transactions(account_id: int) -> Iterator[Difference]:
    """Transactions that do not sum to zero, and those of fills that do not say what the fill does;
    fills without one."""

    def booked(book: Book) -> Any:
        own = Sum("entries__amount", filter=Q(entries__book=book))
        return _units(Coalesce(own, 0, output_field=BigIntegerField()))

    rows = (
        LedgerTransaction.objects.filter(account=account_id)
        .annotate(
            total=_units(Coalesce(Sum("entries__amount"), 0, output_field=BigIntegerField())),
            fees=booked(Book.FEES),
            realised=booked(Book.REALISED_PNL),
            fill_fee=_units(F("fill__fee")),
            fill_realised=_units(F("fill__realised_pnl")),
        )
        .filter(
            ~Q(total=0)
            | Q(kind=TransactionKind.FILL)
            & (~Q(fees=F("fill_fee")) | ~Q(realised=-F("fill_realised")))
        )
        .order_by("pk")
    )
    for row in rows.values("key", "kind", "total", "fees", "realised", "fill_fee", "fill_realised")[
        :MOST_NAMED
    ]:
        if row["total"]:
            yield Difference(f"sum of transaction {row['key']}", row["total"], 0)
        if row["kind"] == TransactionKind.FILL:
            if row["fees"] != row["fill_fee"]:
                yield Difference(f"fee of {row['key']}", row["fill_fee"] or 0, row["fees"])
            if row["realised"] != -(row["fill_realised"] or 0):
                yield Difference(
                    f"realised PnL of {row['key']}", row["fill_realised"] or 0, -row["realised"]
                )
    bare = Fill.objects.filter(account=account_id, transaction__isnull=True).order_by("pk")
    for fill_id in bare.values_list("pk", flat=True)[:MOST_NAMED]:
        yield Difference(f"transactions of fill {fill_id}", 0, 1)


def _wrong_orders(account_id: int) -> Iterator[Difference]:
    """Orders whose fills do not make what they say is filled."""
    rows = (
        Order.objects.filter(account=account_id)
        .annotate(done=Coalesce(Sum("fills__quantity_steps"), 0, output_field=BigIntegerField()))
        .filter(
            ~Q(filled_steps=F("done"))
            | Q(status=OrderStatus.FILLED) & ~Q(filled_steps=F("quantity_steps"))
        )
        .order_by("pk")
    )
    for row in rows.values("pk", "filled_steps", "quantity_steps", "done")[:MOST_NAMED]:
        if row["filled_steps"] != row["done"]:
            yield Difference(f"steps filled of order {row['pk']}", row["filled_steps"], row["done"])
        else:
            yield Difference(
                f"steps filled of order {row['pk']}, which is done",
                row["filled_steps"],
                row["quantity_steps"],
            )


def _wrong_positions(account_id: int) -> list[Difference]:
    """Fills and positions that a replay of all fills makes otherwise, and positions whose round
    trips, with the present one, do not make their totals."""
    # Not tied to the position, so that it is looked for once and not for each.
    newest = (
        Fill.objects.filter(account=account_id)
        .order_by()
        .values("account")
        .annotate(newest=Max("pk"))
        .values("newest")
    )
    trades = {"account": OuterRef("account"), "instrument": OuterRef("instrument")}
    rows = Position.objects.filter(account=account_id).annotate(
        newest_fill=Coalesce(Subquery(newest), 0),
        cost=_units(F("total_cost")),
        pnl=_units(F("realised_pnl")),
        rounds_pnl=_units(F("round_pnl")) + _sum_of(Trade, "pnl", **trades),
        rounds_fees=_units(F("round_fees")) + _sum_of(Trade, "fees", **trades),
        rounds_funding=_units(F("round_funding")) + _sum_of(Trade, "funding", **trades),
        paid=_sum_of(FundingPayment, "amount", position=OuterRef("pk")),
    )
    positions = list(
        rows.order_by("instrument").values(
            "instrument", "quantity_steps", "newest_fill", "cost", "pnl", "rounds_pnl",
            "rounds_fees", "rounds_funding", "paid",
        )
    )  # fmt: skip
    # Of the account, the same in every row.
    through = max((row["newest_fill"] for row in positions), default=0)
    replayed = replay(_fills(account_id, through))
    found = {
        row["instrument"]: Held(row["quantity_steps"], row["cost"], row["pnl"]) for row in positions
    }
    differences = [*replayed.wrong, *compare_positions(found, replayed.held)]
    for row in positions:
        instrument_id = row["instrument"]
        for name, rounds, total in (
            ("PnL", row["rounds_pnl"], row["pnl"]),
            ("fees", row["rounds_fees"], replayed.fees.get(instrument_id, 0)),
            ("funding", row["rounds_funding"], row["paid"]),
        ):
            if rounds != total:
                subject = f"{name} of the round trips in instrument {instrument_id}"
                differences.append(Difference(subject, rounds, total))
    return differences


def _fills(account_id: int, through: int) -> Iterator[FilledRow]:
    rows = (
        Fill.objects.filter(account=account_id, pk__lte=through)
        .annotate(paid=_units(F("fee")), realised=_units(F("realised_pnl")))
        .order_by("pk")
        .values_list(
            "pk", "order__instrument", "order__side", "quantity_steps", "price_ticks",
            "order__tick_size", "order__quantity_step", "paid", "realised",
        )
    )  # fmt: skip
    for pk, instrument_id, side, *rest in rows.iterator(chunk_size=10_000):
        yield FilledRow(pk, instrument_id, 1 if side == Side.BUY else -1, *rest)
