"""HTTP: the accounts, what each is worth, and how it is set."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.once import KEY_PARAMETER, answer_once
from collectors.strict import StrictSerializer
from trading import services
from trading.api.rows import MONEY, asked_account
from trading.models import Account
from trading.orders import TAKER_FEE_PPM
from trading.selectors import account_summary


class AccountSerializer(serializers.Serializer[Any]):
    """An account: how it is set, and what it is worth at the newest closes.

    Shares (return, drawdown, win rate) are fractions.
    """

    id = serializers.IntegerField()
    name = serializers.CharField()
    exchange = serializers.CharField()
    timeframe = serializers.CharField()
    subscriptions = serializers.ListField(child=serializers.CharField())
    is_active = serializers.BooleanField()
    latency_ms = serializers.IntegerField()
    is_pyramiding = serializers.BooleanField()
    trading_state = serializers.CharField()
    initial_capital = serializers.DecimalField(**MONEY)
    cash = serializers.DecimalField(**MONEY)
    equity = serializers.DecimalField(**MONEY)
    high_water_mark = serializers.DecimalField(**MONEY)
    day_start_equity = serializers.DecimalField(**MONEY)
    total_return = serializers.FloatField()
    drawdown = serializers.FloatField()
    daily_pnl = serializers.DecimalField(**MONEY)
    gross_exposure = serializers.DecimalField(**MONEY)
    open_positions = serializers.IntegerField()
    fill_count = serializers.IntegerField()
    trade_count = serializers.IntegerField()
    win_rate = serializers.FloatField(allow_null=True)
    processed_bar = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """The row's columns, and the summary over them."""
        columns = {
            name: getattr(instance, name)
            for name in (
                "exchange", "timeframe", "subscriptions", "is_active", "latency_ms",
                "is_pyramiding", "high_water_mark", "day_start_equity", "created_at",
            )
        }  # fmt: skip
        return super().to_representation({**columns, **account_summary(account_id=instance.pk)})


class AccountsView(generics.ListAPIView[Account]):
    """The accounts, each with what it is worth now."""

    write_role = "trader"
    queryset = Account.objects.select_related("profile")
    serializer_class = AccountSerializer

    class AccountCreateSerializer(StrictSerializer):
        """A new account and its capital."""

        name = serializers.CharField(max_length=64)
        initial_capital = serializers.DecimalField(**MONEY)
        exchange = serializers.ChoiceField(choices=sorted(TAKER_FEE_PPM), default="binance")
        subscriptions = serializers.ListField(child=serializers.CharField(), required=False)

    @extend_schema(
        request=AccountCreateSerializer,
        responses={201: AccountSerializer},
        parameters=[KEY_PARAMETER],
    )
    def post(self, request: Request) -> Response:
        """Open an account."""
        asked = self.AccountCreateSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return answer_once(request, partial(self._open, asked.validated_data))

    def _open(self, values: dict[str, Any]) -> Response:
        account = services.create_account(**values)
        return Response(AccountSerializer(account).data, status=status.HTTP_201_CREATED)


class AccountView(APIView):
    """One account."""

    write_role = "trader"

    class AccountChangeSerializer(StrictSerializer):
        """What may change; `latency_ms` is market time."""

        subscriptions = serializers.ListField(child=serializers.CharField(), required=False)
        is_active = serializers.BooleanField(required=False)
        latency_ms = serializers.IntegerField(min_value=0, max_value=60_000, required=False)
        is_pyramiding = serializers.BooleanField(required=False)

    @extend_schema(responses=AccountSerializer)
    def get(self, request: Request, account_id: int) -> Response:
        """The account with what it is worth."""
        return Response(AccountSerializer(asked_account(account_id)).data)

    @extend_schema(
        request=AccountChangeSerializer, responses=AccountSerializer, parameters=[KEY_PARAMETER]
    )
    def patch(self, request: Request, account_id: int) -> Response:
        """Change what the account follows, how it trades, or stop it."""
        asked_account(account_id)
        asked = self.AccountChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return answer_once(request, partial(self._change, account_id, asked.validated_data))

    def _change(self, account_id: int, values: dict[str, Any]) -> Response:
        account = services.update_account(account_id=account_id, **values)
        return Response(AccountSerializer(account).data)


urlpatterns = [
    path("accounts/", AccountsView.as_view()),
    path("accounts/<int:account_id>/", AccountView.as_view()),
]
