"""HTTP: what an account holds, closed one by one or all at once."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.models import Instrument
from collectors.once import KEY_PARAMETER, answer_once
from trading import services
from trading.api.books import FillSerializer
from trading.api.orders import OrderSerializer
from trading.api.rows import NoQuote, asked_account
from trading.models import Order, OrderKind, OrderLeg, OrderStatus
from trading.selectors import fill_json, holding_of, marks_at, open_positions, position_json
from trading.services.quotes import Offer


class PositionSerializer(serializers.Serializer[Any]):
    """An open position; the quantity is signed, amounts and prices in quote units."""

    instrument = serializers.CharField()
    direction = serializers.ChoiceField(choices=["LONG", "SHORT"])
    quantity = serializers.CharField()
    total_cost = serializers.CharField()
    mark_price = serializers.CharField()
    exposure = serializers.CharField()
    unrealised_pnl = serializers.CharField()
    realised_pnl = serializers.CharField()
    stop_loss = serializers.FloatField(allow_null=True)
    take_profit = serializers.FloatField(allow_null=True)
    strategy = serializers.CharField()
    entered_at = serializers.DateTimeField(allow_null=True)


class PositionListSerializer(serializers.Serializer[Any]):
    """All open positions: never so many that they need pages."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = PositionSerializer(many=True)


class FlattenedSerializer(serializers.Serializer[Any]):
    """What flattening did; `left` says for each instrument why it is still held."""

    is_flat = serializers.BooleanField()
    cancelled_orders = serializers.IntegerField()
    fills = FillSerializer(many=True)
    left = serializers.DictField(child=serializers.CharField())


class PositionsView(APIView):
    """What an account holds."""

    @extend_schema(responses=PositionListSerializer)
    def get(self, request: Request, account_id: int) -> Response:
        """The open positions, marked at the newest closes."""
        account = asked_account(account_id)
        positions = open_positions(account_id=account.pk)
        holdings = [holding_of(position=row) for row in positions]
        marks = marks_at(holdings=holdings, timeframe=account.timeframe, bar=None)
        rows = [position_json(row, mark_ticks=marks[row.instrument.coin_id]) for row in positions]
        return Response({"next": None, "previous": None, "results": rows})


class ClosePositionView(APIView):
    """A person closes a position; works in every trading state."""

    write_role = "trader"

    @extend_schema(
        request=None,
        responses={201: FillSerializer, 202: OrderSerializer},
        parameters=[KEY_PARAMETER],
    )
    def post(self, request: Request, account_id: int, instrument: str) -> Response:
        """Close what is held at the current quote; 202 with the order that works where the market
        gave nothing yet."""
        asked_account(account_id)
        try:
            offer = services.read_offer(account_id=account_id, coin_id=instrument)
        except Instrument.DoesNotExist:
            raise NotFound(f"unknown instrument {instrument}") from None
        return answer_once(request, partial(self._close, account_id, instrument, offer))

    def _close(self, account_id: int, instrument: str, offer: Offer) -> Response:
        try:
            fill = services.close_position(account_id=account_id, coin_id=instrument, offer=offer)
        except services.NoQuoteError as error:
            raise NoQuote(str(error)) from None
        if fill is not None:
            return Response(fill_json(fill), status=status.HTTP_201_CREATED)
        works = Order.objects.filter(
            account=account_id,
            instrument__coin_id=instrument,
            leg=OrderLeg.CLOSE,
            kind=OrderKind.MARKET,
            status=OrderStatus.WORKING,
        ).first()
        if works is None:
            raise NotFound(f"no open position in {instrument}")
        return Response(OrderSerializer(works).data, status=status.HTTP_202_ACCEPTED)


class FlattenView(APIView):
    """A person closes everything; works in every trading state and changes none."""

    write_role = "trader"

    @extend_schema(request=None, responses=FlattenedSerializer, parameters=[KEY_PARAMETER])
    def post(self, request: Request, account_id: int) -> Response:
        """Cancel what could open or add, close what is held. To stay flat, halt trading first: a
        later signal opens again."""
        asked_account(account_id)
        offers = services.read_offers(account_id=account_id)
        return answer_once(
            request, partial(self._flatten, account_id, offers, request.user.get_username())
        )

    def _flatten(self, account_id: int, offers: dict[str, Offer], by: str) -> Response:
        done = services.flatten(account_id=account_id, offers=offers, by=by)
        body = {
            "is_flat": not done.left,
            "cancelled_orders": done.cancelled,
            "fills": [fill_json(fill) for fill in done.fills],
            "left": dict(done.left),
        }
        return Response(body)


urlpatterns = [
    path("accounts/<int:account_id>/positions/", PositionsView.as_view()),
    path(
        "accounts/<int:account_id>/positions/<slug:instrument>/close/",
        ClosePositionView.as_view(),
    ),
    path("accounts/<int:account_id>/flatten/", FlattenView.as_view()),
]
