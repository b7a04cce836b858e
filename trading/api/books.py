"""HTTP: what an account did: its fills, round trips, ledger and equity curve."""

from __future__ import annotations

from typing import Any

import django_filters
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from signals.api.filters import MomentFilter
from trading.api.rows import MONEY, AccountRows, PeriodFilter, asked_account
from trading.models import (
    Book,
    EquityPoint,
    Fill,
    LedgerEntry,
    Liquidity,
    OrderLeg,
    Side,
    Trade,
    TransactionKind,
)
from trading.selectors import fill_json
from trading.track_record import account_performance


class FillSerializer(serializers.Serializer[Fill]):
    """A fill, in the shape that `/ws/fills/` has too; amounts in quote units."""

    id = serializers.IntegerField()
    account = serializers.IntegerField()
    instrument = serializers.CharField()
    exchange = serializers.CharField()
    symbol = serializers.CharField()
    order = serializers.IntegerField()
    signal = serializers.IntegerField(allow_null=True)
    leg = serializers.ChoiceField(choices=OrderLeg.choices)
    side = serializers.ChoiceField(choices=Side.choices)
    quantity = serializers.CharField()
    price = serializers.CharField()
    fee = serializers.CharField()
    realised_pnl = serializers.CharField()
    liquidity = serializers.ChoiceField(choices=Liquidity.choices)
    slippage = serializers.CharField()
    slippage_bps = serializers.FloatField()
    bar = serializers.DateTimeField()
    at = serializers.DateTimeField()

    def to_representation(self, fill: Fill) -> dict[str, Any]:
        """The fill's shape."""
        return fill_json(fill)


class FillFilter(PeriodFilter):
    """What a list of fills may be narrowed by."""

    instrument = django_filters.CharFilter(field_name="order__instrument__coin_id")
    leg = django_filters.ChoiceFilter(field_name="order__leg", choices=OrderLeg.choices)
    side = django_filters.ChoiceFilter(field_name="order__side", choices=Side.choices)


class FillsView(AccountRows):
    """The account's fills."""

    rows = Fill.objects.select_related("order__instrument")
    serializer_class = FillSerializer
    filterset_class = FillFilter


class TradeFilter(PeriodFilter):
    """What a list of round trips may be narrowed by: start <= exited_at < end."""

    start = MomentFilter(field_name="exited_at", lookup_expr="gte")
    end = MomentFilter(field_name="exited_at", lookup_expr="lt")
    instrument = django_filters.CharFilter(field_name="instrument__coin_id")
    strategy = django_filters.CharFilter()


class TradesView(AccountRows):
    """The account's closed round trips."""

    class TradeSerializer(serializers.ModelSerializer[Trade]):
        """A round trip; `pnl` is before fees and funding, `net` after them."""

        instrument = serializers.CharField(source="instrument.coin_id")
        pnl = serializers.DecimalField(**MONEY)
        fees = serializers.DecimalField(**MONEY)
        slippage = serializers.DecimalField(**MONEY)
        funding = serializers.DecimalField(**MONEY)
        net = serializers.DecimalField(**MONEY)
        holding_hours = serializers.FloatField()

        class Meta:
            model = Trade
            fields = [
                "id", "instrument", "strategy", "direction", "quantity", "entry_price",
                "exit_price", "pnl", "fees", "slippage", "funding", "net", "entered_at",
                "exited_at", "holding_hours", "exit_reason",
            ]  # fmt: skip

    rows = Trade.objects.select_related("instrument")
    serializer_class = TradeSerializer
    filterset_class = TradeFilter


class LedgerFilter(PeriodFilter):
    """What a ledger may be narrowed by."""

    start = MomentFilter(field_name="transaction__at", lookup_expr="gte")
    end = MomentFilter(field_name="transaction__at", lookup_expr="lt")
    book = django_filters.ChoiceFilter(choices=Book.choices)
    kind = django_filters.ChoiceFilter(
        field_name="transaction__kind", choices=TransactionKind.choices
    )


class LedgerView(AccountRows):
    """The account's ledger: the entries of one transaction sum to zero."""

    class EntrySerializer(serializers.ModelSerializer[LedgerEntry]):
        """One side of a movement of money; positive is a debit: cash that came, a fee paid."""

        amount = serializers.DecimalField(**MONEY)
        kind = serializers.ChoiceField(
            choices=TransactionKind.choices, source="transaction.kind", read_only=True
        )
        key = serializers.CharField(source="transaction.key")
        fill = serializers.IntegerField(source="transaction.fill_id", allow_null=True)
        at = serializers.DateTimeField(source="transaction.at")

        class Meta:
            model = LedgerEntry
            fields = ["id", "transaction", "kind", "key", "book", "amount", "fill", "at"]

    rows = LedgerEntry.objects.select_related("transaction")
    serializer_class = EntrySerializer
    filterset_class = LedgerFilter


class EquityView(AccountRows):
    """The account's equity curve."""

    class PointSerializer(serializers.ModelSerializer[EquityPoint]):
        """Equity at one market moment."""

        equity = serializers.DecimalField(**MONEY)
        cash = serializers.DecimalField(**MONEY)
        gross_exposure = serializers.DecimalField(**MONEY)

        class Meta:
            model = EquityPoint
            fields = ["at", "equity", "cash", "gross_exposure"]

    rows = EquityPoint.objects.all()
    serializer_class = PointSerializer
    filterset_class = PeriodFilter


class PerformanceView(APIView):
    """How well an account did."""

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, account_id: int) -> Response:
        """Every metric; null where it is undefined."""
        return Response(account_performance(account_id=asked_account(account_id).pk))


urlpatterns = [
    path("accounts/<int:account_id>/fills/", FillsView.as_view()),
    path("accounts/<int:account_id>/trades/", TradesView.as_view()),
    path("accounts/<int:account_id>/ledger/", LedgerView.as_view()),
    path("accounts/<int:account_id>/equity/", EquityView.as_view()),
    path("accounts/<int:account_id>/performance/", PerformanceView.as_view()),
]
