"""Money is stored exactly and never rounded on the way."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from trading.fields import MoneyField, from_units, to_units


@given(units=st.integers(-(2**63) + 1, 2**63 - 1))
def test_units_survive_the_round_trip(units: int) -> None:
    field = MoneyField()
    assert field.get_prep_value(field.from_db_value(units, None, None)) == units
    assert to_units(from_units(units)) == units


@pytest.mark.parametrize("value", ["0.000000001", "NaN", "Infinity", "92233720368.54775808"])
def test_what_does_not_fit_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        to_units(Decimal(value))


def test_text_that_is_no_amount_is_refused() -> None:
    with pytest.raises(ValidationError, match="not an amount"):
        MoneyField().to_python("ten")
