"""Exact money in the database: a signed 64-bit count of 1e-8 quote units, read as Decimal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

if TYPE_CHECKING:
    from django.db.models.expressions import Combinable

    BigInteger = models.BigIntegerField[Any, Any]
else:
    BigInteger = models.BigIntegerField

UNITS_PER_QUOTE = 100_000_000
_EXPONENT = Decimal(1).scaleb(-8)
_LIMIT = 2**63 - 1


def to_units(value: Decimal) -> int:
    """The count of 1e-8 units in a Decimal. Raises ValidationError when it is not a whole count."""
    scaled = value * UNITS_PER_QUOTE
    if not scaled.is_finite() or scaled != scaled.to_integral_value() or abs(scaled) > _LIMIT:
        raise ValidationError(f"{value} is not a whole number of 1e-8 units in 64 bits")
    return int(scaled)


def from_units(units: int) -> Decimal:
    """The Decimal, with eight places, of a count of 1e-8 units."""
    return Decimal(units) * _EXPONENT


class MoneyField(BigInteger):
    """Stores 1e-8 quote units as BIGINT, so sums are exact on every database.

    Aggregates (Sum) also come back as Decimal. Never rounds: a value with more than eight places
    is refused, because rounding happens in one place, in `trading.accounting`.
    """

    if TYPE_CHECKING:
        # What the Django plugin of mypy takes for the attribute on a model.
        _pyi_private_set_type: Decimal | int | str | Combinable  # type: ignore[assignment]
        _pyi_private_get_type: Decimal  # type: ignore[assignment]
        _pyi_lookup_exact_type: Decimal  # type: ignore[assignment]

    description = "exact money in 1e-8 quote units"

    def from_db_value(self, value: int | None, expression: Any, connection: Any) -> Decimal | None:
        return None if value is None else from_units(int(value))

    def to_python(self, value: Any) -> Decimal | None:
        if value is None or isinstance(value, Decimal):
            return value
        try:
            return Decimal(str(value))
        except ArithmeticError:
            raise ValidationError(f"{value!r} is not an amount of money") from None

    def get_prep_value(self, value: Any) -> int | None:
        decimal = self.to_python(value)
        return None if decimal is None else to_units(decimal)

    def formfield(self, **kwargs: Any) -> Any:
        return forms.DecimalField(max_digits=20, decimal_places=8, required=not self.blank)
