"""HTTP: an account's orders, those by hand placed and cancelled."""

from __future__ import annotations

from functools import partial
from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from django.urls import path
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.models import Instrument
from collectors.once import KEY_PARAMETER, answer_once
from collectors.strict import StrictSerializer
from risk.models import RiskDecision
from trading import services
from trading.api.books import FillSerializer
from trading.api.refusals import read_or_refuse
from trading.api.rows import (
    AccountRows,
    PeriodFilter,
    asked_account,
    storable,
    storable_fields,
)
from trading.models import ENTRY_LEGS, Fill, Order, OrderKind, OrderLeg, OrderStatus, Side
from trading.models import TimeInForce as Lifetime
from trading.orders import Grid
from trading.services import HandOrder, HandOutcome, Terms
from trading.services.quotes import Offer

# More digits than any venue's grid has; what is too large or too fine is refused in words.
NUMBER: dict[str, Any] = {"max_digits": 40, "decimal_places": 20, "required": False}
SIDES = {Side.BUY.value: 1, Side.SELL.value: -1}
DIRECTIONS = {"LONG": 1, "SHORT": -1}


class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order: quantities in base units, prices and `trail` (a distance) in quote units.

    One that is `reduce_only` can neither open nor turn a position.
    """

    instrument = serializers.CharField(source="instrument.coin_id")
    quantity = serializers.SerializerMethodField()
    filled_quantity = serializers.SerializerMethodField()
    limit_price = serializers.SerializerMethodField()
    trigger_price = serializers.SerializerMethodField()
    trail = serializers.SerializerMethodField()
    reduce_only = serializers.SerializerMethodField()

    class Meta:
        model = Order
        fields = [
            "id", "account", "instrument", "exchange", "symbol", "signal", "decision", "kind",
            "leg", "side", "quantity", "filled_quantity", "limit_price", "trigger_price", "trail",
            "is_triggered", "stop_loss", "take_profit", "reduce_only", "time_in_force",
            "expires_at", "status", "reason", "placed_by", "oco", "at", "ended_at",
        ]  # fmt: skip

    def get_quantity(self, order: Order) -> str:
        """An exact decimal string."""
        return _grid(order).quantity_text(order.quantity_steps)

    def get_filled_quantity(self, order: Order) -> str:
        """An exact decimal string."""
        return _grid(order).quantity_text(order.filled_steps)

    def get_limit_price(self, order: Order) -> str | None:
        """An exact decimal string; null for an order without a limit."""
        return _price(order, order.limit_ticks)

    def get_trigger_price(self, order: Order) -> str | None:
        """An exact decimal string; null for an order without a trigger."""
        return _price(order, order.trigger_ticks)

    def get_trail(self, order: Order) -> str | None:
        """An exact decimal string; null for an order that does not trail."""
        return _price(order, order.trail_ticks)

    def get_reduce_only(self, order: Order) -> bool:
        """Whether it only shrinks what is held."""
        return order.leg not in ENTRY_LEGS


class DecisionSerializer(serializers.ModelSerializer[RiskDecision]):
    """What risk decided: `position_size` is the granted notional in quote units."""

    instrument = serializers.CharField(source="instrument.coin_id")

    class Meta:
        model = RiskDecision
        fields = [
            "id", "instrument", "direction", "is_approved", "rejection_reason", "risk_level",
            "position_size", "stop_loss", "take_profit", "warnings", "at",
        ]  # fmt: skip


class TermsSerializer(StrictSerializer):
    """When and at what the second order of a one-cancels-other pair trades."""

    kind = serializers.ChoiceField(choices=OrderKind.choices)
    limit_price = serializers.DecimalField(**NUMBER)
    trigger_price = serializers.DecimalField(**NUMBER)
    trail = serializers.DecimalField(**NUMBER)


class OrderRequestSerializer(TermsSerializer):
    """An order by hand: a `side` (or a direction), and a `quantity` in base units or a `notional`.

    `oco` is a second order for the same: what one of them fills, the other must not. `expires_at`
    is market time. A `reduce_only` order without a size is for all that is held.
    """

    instrument = serializers.SlugRelatedField("coin_id", queryset=Instrument.objects.all())
    side = serializers.ChoiceField(choices=Side.choices, required=False)
    direction = serializers.ChoiceField(choices=list(DIRECTIONS), required=False)
    kind = serializers.ChoiceField(choices=OrderKind.choices, default=OrderKind.MARKET)
    quantity = serializers.DecimalField(**NUMBER)
    notional = serializers.DecimalField(**NUMBER)
    time_in_force = serializers.ChoiceField(choices=Lifetime.choices, default=Lifetime.GTC)
    expires_at = serializers.DateTimeField(required=False)
    stop_loss = serializers.DecimalField(**NUMBER)
    take_profit = serializers.DecimalField(**NUMBER)
    reduce_only = serializers.BooleanField(default=False)
    oco = TermsSerializer(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """A side or a direction, not both."""
        if ("side" in attrs) == ("direction" in attrs):
            raise serializers.ValidationError({"side": ["give either side or direction"]})
        return attrs


class PlacedSerializer(serializers.Serializer[Any]):
    """What was placed, and what of it was filled at once."""

    orders = OrderSerializer(many=True)
    fills = FillSerializer(many=True)
    decision = DecisionSerializer(allow_null=True)


class RefusedSerializer(serializers.Serializer[Any]):
    """Why an order was not placed; the decision is the row that says so."""

    error = inline_serializer(
        "Error",
        {
            "code": serializers.CharField(),
            "message": serializers.CharField(),
            "fields": serializers.DictField(),
        },
    )
    decision = DecisionSerializer()
    granted_quantity = serializers.CharField(required=False)


class OrderFilter(PeriodFilter):
    """What a list of orders may be narrowed by."""

    status = django_filters.ChoiceFilter(choices=OrderStatus.choices)
    instrument = django_filters.CharFilter(field_name="instrument__coin_id")
    kind = django_filters.ChoiceFilter(choices=OrderKind.choices)
    leg = django_filters.ChoiceFilter(choices=OrderLeg.choices)
    side = django_filters.ChoiceFilter(choices=Side.choices)


class OrdersView(AccountRows):
    """The account's orders; a trader adds one by hand."""

    write_role = "trader"
    rows = Order.objects.select_related("instrument")
    serializer_class = OrderSerializer
    filterset_class = OrderFilter

    @extend_schema(
        request=OrderRequestSerializer,
        responses={201: PlacedSerializer, 400: RefusedSerializer, 409: RefusedSerializer},
        parameters=[KEY_PARAMETER],
    )
    def post(self, request: Request, account_id: int) -> Response:
        """Place an order. What may enlarge the exposure passes risk; a refusal is 409 with the
        decision. What only reduces works in every trading state."""
        asked_account(account_id)
        record = partial(_record_invalid, account_id)
        asked = read_or_refuse(
            request, OrderRequestSerializer, record=record, account_id=account_id
        )
        order = _hand_order(asked.validated_data, by=request.user.get_username())
        offer = services.read_offer(account_id=account_id, coin_id=order.coin_id)
        return answer_once(request, partial(self._place, account_id, order, offer))

    def _place(self, account_id: int, order: HandOrder, offer: Offer) -> Response:
        outcome = services.place_hand_order(account_id=account_id, asked=order, offer=offer)
        if outcome.refusal is not None:
            return _refused(outcome)
        fills = Fill.objects.filter(order__in=outcome.orders).select_related("order__instrument")
        placed = {"orders": outcome.orders, "fills": fills, "decision": outcome.decision}
        return Response(PlacedSerializer(placed).data, status=status.HTTP_201_CREATED)


class OrderCancelView(APIView):
    """A person takes an order back; works in every trading state."""

    write_role = "trader"

    @extend_schema(request=None, responses=OrderSerializer, parameters=[KEY_PARAMETER])
    def post(self, request: Request, order_id: int) -> Response:
        """Cancel it; one that has ended already stays as it is, and its status says so."""
        get_object_or_404(Order, pk=order_id)
        return answer_once(request, partial(self._cancel, order_id))

    def _cancel(self, order_id: int) -> Response:
        order = services.cancel_working_order(order_id=order_id)
        return Response(OrderSerializer(order).data)


def _hand_order(values: dict[str, Any], *, by: str) -> HandOrder:
    side = SIDES[values["side"]] if "side" in values else DIRECTIONS[values["direction"]]
    terms = [_terms(values)] + ([_terms(values["oco"])] if "oco" in values else [])
    wanted = ("quantity", "notional", "expires_at", "stop_loss", "take_profit")
    return HandOrder(
        coin_id=values["instrument"].coin_id,
        side=side,
        terms=tuple(terms),
        time_in_force=values["time_in_force"],
        reduce_only=values["reduce_only"],
        placed_by=by,
        **{name: values[name] for name in wanted if name in values},
    )


def _terms(values: dict[str, Any]) -> Terms:
    prices = ("limit_price", "trigger_price", "trail")
    return Terms(kind=values["kind"], **{name: values.get(name) for name in prices})


def _record_invalid(account_id: int, data: Any, errors: Any) -> RiskDecision | None:
    """A row for what was no order at all, where it names an instrument."""
    said = data if isinstance(data, dict) else {}
    return services.record_invalid_order(
        account_id=account_id,
        coin_id=storable(said.get("instrument", "")),
        side=SIDES.get(str(said.get("side")), 0),
        fields=storable_fields(errors),
    )


def _refused(outcome: HandOutcome) -> Response:
    refusal = outcome.refusal
    if refusal is None:
        raise ValueError("not refused")
    error = {"code": refusal.code, "message": refusal.message, "fields": refusal.fields}
    return Response(
        {
            "error": error,
            "decision": DecisionSerializer(outcome.decision).data,
            **refusal.facts,
        },
        status=status.HTTP_400_BAD_REQUEST if refusal.fields else status.HTTP_409_CONFLICT,
    )


def _grid(order: Order) -> Grid:
    return Grid.of(order.tick_size, order.quantity_step)


def _price(order: Order, ticks: int | None) -> str | None:
    return None if ticks is None else _grid(order).price_text(ticks)


urlpatterns = [
    path("accounts/<int:account_id>/orders/", OrdersView.as_view()),
    path("orders/<int:order_id>/cancel/", OrderCancelView.as_view()),
]
