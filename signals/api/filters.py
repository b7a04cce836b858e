"""HTTP: filters of lists that refuse what is none of their values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django_filters.fields import IsoDateTimeField
from django_filters.widgets import BooleanWidget


class _MomentField(IsoDateTimeField):  # type: ignore[misc]
    def to_python(self, value: Any) -> datetime | None:
        """In UTC, where there is such a moment: the first and last days may have none."""
        moment: datetime | None = super().to_python(value)
        try:
            return None if moment is None else moment.astimezone(UTC)
        except OverflowError:
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid") from None


class MomentFilter(django_filters.IsoDateTimeFilter):  # type: ignore[misc]
    """A moment, ISO 8601."""

    field_class = _MomentField


class _AsWritten(BooleanWidget):  # type: ignore[misc]
    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """True or False, else what was written."""
        found = super().value_from_datadict(data, files, name)
        return data.get(name) if found is None else found


class _TruthField(forms.NullBooleanField):
    widget = _AsWritten

    def to_python(self, value: Any) -> Any:
        """None when nothing was given."""
        if value in (None, "") or isinstance(value, bool):
            return value if isinstance(value, bool) else None
        raise forms.ValidationError("Enter true or false.", code="invalid")


class TruthFilter(django_filters.BooleanFilter):  # type: ignore[misc]
    """true or false; another word would otherwise be the same as none."""

    field_class = _TruthField
