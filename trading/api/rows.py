"""HTTP: what the pages of an account share: its rows, its filters, conflicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import django_filters
from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from rest_framework import generics, serializers, status
from rest_framework.exceptions import APIException

from signals.api.filters import MomentFilter
from trading.models import Account

MONEY: dict[str, Any] = {"max_digits": 20, "decimal_places": 8}

SOME = 20  # names that an error tells


class NoQuote(APIException):
    """There is nothing fresh to trade at."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "no_quote"


class PeriodFilter(django_filters.FilterSet):  # type: ignore[misc]
    """start <= at < end, market time."""

    start = MomentFilter(field_name="at", lookup_expr="gte")
    end = MomentFilter(field_name="at", lookup_expr="lt")


class AccountRows(generics.ListAPIView[Any]):
    """One kind of an account's rows, newest first."""

    rows: QuerySet[Any]

    def get_queryset(self) -> QuerySet[Any]:
        """The account's rows."""
        if getattr(self, "swagger_fake_view", False):  # the schema asks without an account
            return self.rows.none()
        return self.rows.filter(account=asked_account(self.kwargs["account_id"]))


def only_account(accounts: QuerySet[Account] | None = None) -> Account:
    """The account that is meant where none was named: the only one.

    Raises Http404 when there is none, ValidationError when there are several.
    """
    found = Account.objects.all() if accounts is None else accounts
    first = list(found.select_related("profile").order_by("pk")[:SOME])
    if len(first) > 1:
        names = ", ".join(account.name for account in first)
        raise serializers.ValidationError({"account": [f"name one: {names}"]})
    if not first:
        raise Http404("there is no such account")
    return first[0]


def asked_account(account_id: int) -> Account:
    """The account of an address. Raises Http404."""
    return get_object_or_404(Account.objects.select_related("profile"), pk=account_id)


def storable(value: Any) -> str:
    """As a row can hold what a stranger wrote: not long, and without what no text column takes."""
    return str(value).replace("\x00", "").replace("\\x00", "")[:300]


def storable_fields(errors: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the fields of a request, for a JSON column."""
    return {storable(name): storable(lines) for name, lines in list(errors.items())[:30]}
