"""Accounts, their books and risk assessments over HTTP."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.models import Instrument
from trading import services
from trading.models import Account, EquityPoint, Fill, LedgerEntry, Order, Trade
from trading.orders import TAKER_FEE_PPM, Grid
from trading.selectors import (
    account_performance,
    account_summary,
    fill_json,
    holding_of,
    marks_at,
    open_positions,
    position_json,
)
from trading.services.assessment import DIRECTIONS, AssessmentRequest

MONEY: dict[str, Any] = {"max_digits": 20, "decimal_places": 8}


class NoQuote(APIException):
    """There is nothing fresh to trade at."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "no_quote"


class AccountsView(APIView):
    """The accounts, each with what it is worth now."""

    write_role = "trader"

    class AccountCreateSerializer(serializers.Serializer[Any]):
        """A new account and its capital."""

        name = serializers.CharField(max_length=64)
        initial_capital = serializers.DecimalField(**MONEY)
        exchange = serializers.ChoiceField(choices=sorted(TAKER_FEE_PPM), default="binance")
        subscriptions = serializers.ListField(child=serializers.CharField(), required=False)

    @extend_schema(operation_id="api_v1_accounts_list", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Every account's summary."""
        ids = Account.objects.values_list("pk", flat=True)
        return Response({"results": [_summary(pk) for pk in ids]})

    @extend_schema(request=AccountCreateSerializer, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Open an account."""
        asked = self.AccountCreateSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        account = services.create_account(**asked.validated_data)
        return Response(_summary(account.pk), status=status.HTTP_201_CREATED)


class AccountView(APIView):
    """One account."""

    write_role = "trader"

    class AccountChangeSerializer(serializers.Serializer[Any]):
        """What may change."""

        subscriptions = serializers.ListField(child=serializers.CharField(), required=False)
        is_active = serializers.BooleanField(required=False)

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, account_id: int) -> Response:
        """The account's summary."""
        return Response(_summary(_account(account_id).pk))

    @extend_schema(request=AccountChangeSerializer, responses=OpenApiTypes.OBJECT)
    def patch(self, request: Request, account_id: int) -> Response:
        """Change what the account follows, or stop it."""
        asked = self.AccountChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        services.update_account(account_id=_account(account_id).pk, **asked.validated_data)
        return Response(_summary(account_id))


class PositionsView(APIView):
    """What an account holds."""

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, account_id: int) -> Response:
        """The open positions, marked at the newest closes."""
        account = _account(account_id)
        positions = open_positions(account_id=account.pk)
        holdings = [holding_of(position=row) for row in positions]
        marks = marks_at(holdings=holdings, timeframe=account.timeframe, bar=None)
        rows = [position_json(row, mark_ticks=marks[row.instrument.coin_id]) for row in positions]
        return Response({"results": rows})


class ClosePositionView(APIView):
    """A person closes a position; works in every trading state."""

    write_role = "trader"

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, account_id: int, instrument: str) -> Response:
        """Close what is held at the current quote."""
        _account(account_id)
        try:
            fill = services.close_position(account_id=account_id, coin_id=instrument)
        except Instrument.DoesNotExist:
            raise NotFound(f"unknown instrument {instrument}") from None
        except services.NoQuoteError as error:
            raise NoQuote(str(error)) from None
        if fill is None:
            raise NotFound(f"no open position in {instrument}")
        return Response(fill_json(fill), status=status.HTTP_201_CREATED)


class AccountRows(generics.ListAPIView[Any]):
    """One kind of an account's rows, newest first."""

    rows: QuerySet[Any]

    def get_queryset(self) -> QuerySet[Any]:
        """The account's rows."""
        if getattr(self, "swagger_fake_view", False):  # the schema asks without an account
            return self.rows.none()
        return self.rows.filter(account=_account(self.kwargs["account_id"]))


class OrdersView(AccountRows):
    """The account's orders."""

    class OrderSerializer(serializers.ModelSerializer[Order]):
        """An order; the quantity in base units."""

        instrument = serializers.CharField(source="instrument.coin_id")
        quantity = serializers.SerializerMethodField()
        filled_quantity = serializers.SerializerMethodField()
        limit_price = serializers.SerializerMethodField()
        trigger_price = serializers.SerializerMethodField()

        class Meta:
            model = Order
            fields = [
                "id",
                "instrument",
                "exchange",
                "symbol",
                "signal",
                "decision",
                "kind",
                "leg",
                "side",
                "quantity",
                "filled_quantity",
                "limit_price",
                "trigger_price",
                "status",
                "reason",
                "oco",
                "at",
                "ended_at",
            ]

        def get_quantity(self, order: Order) -> str:
            """An exact decimal string."""
            return Grid.of(order.tick_size, order.quantity_step).quantity_text(order.quantity_steps)

        def get_filled_quantity(self, order: Order) -> str:
            """An exact decimal string."""
            return Grid.of(order.tick_size, order.quantity_step).quantity_text(order.filled_steps)

        def get_limit_price(self, order: Order) -> str | None:
            """An exact decimal string; null for an order without a limit."""
            return self._price(order, order.limit_ticks)

        def get_trigger_price(self, order: Order) -> str | None:
            """An exact decimal string; null for an order without a trigger."""
            return self._price(order, order.trigger_ticks)

        def _price(self, order: Order, ticks: int | None) -> str | None:
            grid = Grid.of(order.tick_size, order.quantity_step)
            return None if ticks is None else grid.price_text(ticks)

    rows = Order.objects.select_related("instrument")
    serializer_class = OrderSerializer


@extend_schema_view(get=extend_schema(responses=OpenApiTypes.OBJECT))
class FillsView(AccountRows):
    """The account's fills."""

    class FillSerializer(serializers.BaseSerializer[Fill]):
        """As `fill_json`, the same shape as over WebSocket."""

        def to_representation(self, instance: Fill) -> dict[str, Any]:
            """The fill's shape."""
            return fill_json(instance)

    rows = Fill.objects.select_related("order__instrument")
    serializer_class = FillSerializer


class TradesView(AccountRows):
    """The account's closed round trips."""

    class TradeSerializer(serializers.ModelSerializer[Trade]):
        """A round trip; `pnl` is before fees."""

        instrument = serializers.CharField(source="instrument.coin_id")
        pnl = serializers.DecimalField(**MONEY)
        fees = serializers.DecimalField(**MONEY)

        class Meta:
            model = Trade
            fields = [
                "id",
                "instrument",
                "strategy",
                "direction",
                "quantity",
                "entry_price",
                "exit_price",
                "pnl",
                "fees",
                "entered_at",
                "exited_at",
                "exit_reason",
            ]

    rows = Trade.objects.select_related("instrument")
    serializer_class = TradeSerializer


class LedgerView(AccountRows):
    """The account's ledger."""

    class EntrySerializer(serializers.ModelSerializer[LedgerEntry]):
        """One movement of cash."""

        amount = serializers.DecimalField(**MONEY)
        kind = serializers.CharField(source="transaction.kind")
        key = serializers.CharField(source="transaction.key")
        fill = serializers.IntegerField(source="transaction.fill_id", allow_null=True)
        at = serializers.DateTimeField(source="transaction.at")

        class Meta:
            model = LedgerEntry
            fields = ["id", "transaction", "kind", "key", "book", "amount", "fill", "at"]

    rows = LedgerEntry.objects.select_related("transaction")
    serializer_class = EntrySerializer


class EquityView(AccountRows):
    """The account's equity curve."""

    class PointSerializer(serializers.ModelSerializer[EquityPoint]):
        """Equity at one bar's close."""

        equity = serializers.DecimalField(**MONEY)
        cash = serializers.DecimalField(**MONEY)
        gross_exposure = serializers.DecimalField(**MONEY)

        class Meta:
            model = EquityPoint
            fields = ["at", "equity", "cash", "gross_exposure"]

    rows = EquityPoint.objects.all()
    serializer_class = PointSerializer


class PerformanceView(APIView):
    """How well an account did."""

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, account_id: int) -> Response:
        """Every metric; null where it is undefined."""
        return Response(account_performance(account_id=_account(account_id).pk))


class AssessView(APIView):
    """The assessment of a request that nobody executes."""

    write_role = "trader"

    class AssessSerializer(serializers.Serializer[Any]):
        """What is asked; `portfolio_state` stands in for the account's own portfolio."""

        signal_id = serializers.CharField(default="", allow_blank=True)
        asset = serializers.SlugRelatedField("coin_id", queryset=Instrument.objects.all())
        signal_type = serializers.ChoiceField(choices=sorted(DIRECTIONS))
        price = serializers.FloatField()
        confidence = serializers.FloatField()
        stop_loss = serializers.FloatField(default=None, allow_null=True)
        take_profit = serializers.FloatField(default=None, allow_null=True)
        position_size = serializers.FloatField(default=None, allow_null=True)
        account = serializers.PrimaryKeyRelatedField(
            queryset=Account.objects.select_related("profile"), default=None, allow_null=True
        )
        portfolio_state = serializers.DictField(
            child=serializers.FloatField(), default=None, allow_null=True
        )

        def validate_portfolio_state(self, value: dict[str, float] | None) -> Any:
            """Equity is the least that must be said."""
            if value is not None and "equity" not in value:
                raise serializers.ValidationError("equity is missing")
            return value

    @extend_schema(request=AssessSerializer, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Assess; a refusal is an answer too."""
        asked = self.AssessSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        values = dict(asked.validated_data)
        account = values.pop("account") or get_object_or_404(
            Account.objects.select_related("profile").order_by("pk")[:1]
        )
        state = values.pop("portfolio_state")
        wanted = AssessmentRequest(**{**values, "asset": values["asset"].coin_id})
        return Response(
            services.preview_assessment(account=account, asked=wanted, portfolio_state=state)
        )


def _summary(account_id: int) -> dict[str, Any]:
    """The summary with its decimals as strings."""
    summary = account_summary(account_id=account_id)
    return {
        name: f"{value:f}" if isinstance(value, Decimal) else value
        for name, value in summary.items()
    }


def _account(account_id: int) -> Account:
    return get_object_or_404(Account, pk=account_id)


urlpatterns = [
    path("accounts/", AccountsView.as_view()),
    path("accounts/<int:account_id>/", AccountView.as_view()),
    path("accounts/<int:account_id>/positions/", PositionsView.as_view()),
    path(
        "accounts/<int:account_id>/positions/<slug:instrument>/close/",
        ClosePositionView.as_view(),
    ),
    path("accounts/<int:account_id>/orders/", OrdersView.as_view()),
    path("accounts/<int:account_id>/fills/", FillsView.as_view()),
    path("accounts/<int:account_id>/trades/", TradesView.as_view()),
    path("accounts/<int:account_id>/ledger/", LedgerView.as_view()),
    path("accounts/<int:account_id>/equity/", EquityView.as_view()),
    path("accounts/<int:account_id>/performance/", PerformanceView.as_view()),
    path("risk/assess/", AssessView.as_view()),
]
