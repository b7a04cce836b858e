"""Backtests over HTTP: asked for, followed, cancelled."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.shortcuts import get_object_or_404
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.once import KEY_PARAMETER, answer_once, once
from trading import services, tasks
from trading.models import Backtest

MONEY: dict[str, Any] = {"max_digits": 20, "decimal_places": 8}


class BacktestsView(generics.ListAPIView[Backtest]):
    """The backtests, newest first."""

    class BacktestSerializer(serializers.ModelSerializer[Backtest]):
        """A backtest without its long metrics."""

        initial_capital = serializers.DecimalField(**MONEY)
        final_value = serializers.DecimalField(**MONEY)

        class Meta:
            model = Backtest
            fields = [
                "id",
                "strategy_name",
                "instruments",
                "timeframe",
                "start_date",
                "end_date",
                "parameters",
                "state",
                "progress_pct",
                "error",
                "initial_capital",
                "final_value",
                "total_return",
                "sharpe_ratio",
                "max_drawdown",
                "trade_count",
                "created_at",
                "finished_at",
            ]

    class BacktestCreateSerializer(serializers.Serializer[Any]):
        """What to test: the bars that open in [start_date, end_date).

        The answer's start_date is that of the first stored candle when that is later.
        """

        strategy_name = serializers.CharField(max_length=64)
        instruments = serializers.ListField(child=serializers.CharField(), allow_empty=False)
        timeframe = serializers.CharField(default="1h")
        start_date = serializers.DateTimeField()
        end_date = serializers.DateTimeField()
        initial_capital = serializers.DecimalField(**MONEY, required=False, min_value=1)
        parameters = serializers.DictField(default=dict)

    queryset = Backtest.objects.defer("metrics", "revisions", "record")
    serializer_class = BacktestSerializer

    @extend_schema(
        request=BacktestCreateSerializer,
        responses={202: BacktestSerializer},
        parameters=[KEY_PARAMETER],
    )
    def post(self, request: Request) -> Response:
        """Queue a backtest; `Location` is where to follow it."""
        asked = self.BacktestCreateSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return answer_once(request, partial(self._queue, request, asked.validated_data))

    def _queue(self, request: Request, values: dict[str, Any]) -> Response:
        with transaction.atomic():
            try:
                backtest = services.create_backtest(
                    strategy_name=values["strategy_name"],
                    instruments=values["instruments"],
                    timeframe=values["timeframe"],
                    start=values["start_date"],
                    end=values["end_date"],
                    initial_capital=values.get("initial_capital"),
                    parameters=values["parameters"],
                )
            except services.BacktestError as error:
                raise serializers.ValidationError({error.field: [str(error)]}) from None
            # A broker that is down loses only the hint: the sweep finds the row.
            transaction.on_commit(partial(tasks.run_backtest.delay, backtest.pk), robust=True)
        address = request.build_absolute_uri(f"{request.path}{backtest.pk}/")
        return Response(
            {**self.BacktestSerializer(backtest).data, "url": address},
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": address},
        )


class BacktestView(generics.RetrieveAPIView[Backtest]):
    """One backtest with all its metrics."""

    class DetailSerializer(BacktestsView.BacktestSerializer):
        """All of it."""

        class Meta(BacktestsView.BacktestSerializer.Meta):
            fields = [*BacktestsView.BacktestSerializer.Meta.fields, "metrics", "revisions"]

    queryset = Backtest.objects.defer("record")
    serializer_class = DetailSerializer


class CancelView(APIView):
    """Stops a backtest that is not finished."""

    @once
    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, pk: int) -> Response:
        """Cancel it; cancelling what is finished changes nothing and says so."""
        get_object_or_404(Backtest, pk=pk)
        cancelled = services.cancel_backtest(backtest_id=pk)
        state = Backtest.objects.values_list("state", flat=True).get(pk=pk)
        return Response({"id": pk, "cancelled": cancelled, "state": state})


urlpatterns = [
    path("backtests/", BacktestsView.as_view()),
    path("backtests/<int:pk>/", BacktestView.as_view()),
    path("backtests/<int:pk>/cancel/", CancelView.as_view()),
]
