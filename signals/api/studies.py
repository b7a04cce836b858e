"""HTTP: what a strategy decides by over history, and how what it said turned out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.marketdata import from_ms
from collectors.models import Instrument
from signals.api.said import SignalSerializer
from signals.inspection import (
    Inspection,
    InspectionFailed,
    InspectionRefused,
    inspect_strategy,
)
from signals.models import StrategyConfig
from signals.registry import CONSENSUS
from signals.strategy import FloatArray
from signals.track_record import outcome_summary

Numbers = serializers.ListField(child=serializers.FloatField(allow_null=True))


class StrategyFailed(APIException):
    """The strategy raised: a fault of its own, which asking again does not mend."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "strategy_failed"


class AnalysisQuery(serializers.Serializer[Any]):
    """Which bars: start <= open_time < end, the last 30 days of hourly bars by default."""

    instrument = serializers.CharField()
    start = serializers.DateTimeField(required=False)
    end = serializers.DateTimeField(required=False)


class CandleColumnsSerializer(serializers.Serializer[Any]):
    """Columns of bars; null where there is no candle, the volume also where its source has none."""

    open = Numbers
    high = Numbers
    low = Numbers
    close = Numbers
    volume = Numbers


class AnalysisSerializer(serializers.Serializer[Any]):
    """One bar in each element of every list, oldest first; null is no value.

    `direction` is the wanted state (-1, 0, 1) as computed now, `signals` what was said then.
    Of the consensus, `diagnostics` also hold each strategy's direction x confidence.
    """

    strategy = serializers.CharField()
    instrument = serializers.CharField()
    timeframe = serializers.CharField()
    open_time = serializers.ListField(child=serializers.DateTimeField())
    candles = CandleColumnsSerializer()
    direction = serializers.ListField(child=serializers.IntegerField())
    confidence = Numbers
    stop_loss = Numbers
    take_profit = Numbers
    position_size = Numbers
    diagnostics = serializers.DictField(child=Numbers)
    signals = SignalSerializer(many=True)


class AnalysisView(APIView):
    """What a strategy (or `consensus`) says at each bar of an instrument."""

    @extend_schema(parameters=[AnalysisQuery], responses=AnalysisSerializer)
    def get(self, request: Request, name: str) -> Response:
        """At most 2160 bars at once; 422 when the strategy raises."""
        query = AnalysisQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        wanted = query.validated_data
        try:
            shown = inspect_strategy(
                strategy_name=name,
                coin_id=wanted["instrument"],
                start=wanted.get("start"),
                end=wanted.get("end"),
            )
        except InspectionRefused as error:
            if error.field == "strategy":
                raise NotFound(str(error)) from None
            raise serializers.ValidationError({error.field: [str(error)]}) from None
        except InspectionFailed as error:
            raise StrategyFailed(str(error)) from None
        return Response(_analysis_json(shown))


class HorizonSerializer(serializers.Serializer[Any]):
    """The mean forward return (a fraction, in the signal's direction), and of how many signals."""

    count = serializers.IntegerField()
    mean_return = serializers.FloatField(allow_null=True)


class OutcomeSummarySerializer(serializers.Serializer[Any]):
    """How the signals that are not flat did; `ended` ones have a result and can be hits."""

    instrument = serializers.CharField(source="coin_id", allow_null=True)
    signals = serializers.IntegerField()
    ended = serializers.IntegerField()
    hits = serializers.IntegerField()
    hit_rate = serializers.FloatField(allow_null=True)
    stops = serializers.IntegerField()
    targets = serializers.IntegerField()
    mean_result = serializers.FloatField(allow_null=True)
    mean_best_return = serializers.FloatField(allow_null=True)
    mean_worst_return = serializers.FloatField(allow_null=True)
    horizons = serializers.DictField(child=HorizonSerializer())


class OutcomesSerializer(serializers.Serializer[Any]):
    """A strategy's outcomes in all (null when it has said nothing), and of each instrument."""

    strategy = serializers.CharField()
    total = OutcomeSummarySerializer(allow_null=True)
    instruments = OutcomeSummarySerializer(many=True)


class OutcomesQuery(serializers.Serializer[Any]):
    """Which signals: of entries since a moment (market time), of one instrument."""

    since = serializers.DateTimeField(required=False)
    instrument = serializers.SlugRelatedField(
        slug_field="coin_id", queryset=Instrument.objects.all(), required=False
    )


class OutcomesView(APIView):
    """How what a strategy (or `consensus`) said turned out."""

    @extend_schema(parameters=[OutcomesQuery], responses=OutcomesSerializer)
    def get(self, request: Request, name: str) -> Response:
        """For people to see; nothing is decided by it."""
        if name != CONSENSUS:
            get_object_or_404(StrategyConfig, name=name)
        query = OutcomesQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        instrument = query.validated_data.get("instrument")
        narrowed = {
            "strategy": name,
            "coin_id": instrument and instrument.coin_id,
            "since": query.validated_data.get("since"),
        }
        found = {
            "strategy": name,
            "total": next(iter(outcome_summary(**narrowed)), None),
            "instruments": outcome_summary(**narrowed, by_instrument=True),
        }
        return Response(OutcomesSerializer(found).data)


def _analysis_json(shown: Inspection) -> dict[str, Any]:
    return {
        "strategy": shown.strategy,
        "instrument": shown.coin_id,
        "timeframe": shown.timeframe,
        "open_time": [from_ms(moment) for moment in shown.open_time.tolist()],
        "candles": {
            name: _numbers(np.where(shown.valid, values, np.nan))
            for name, values in shown.candles.items()
        },
        "direction": shown.direction.tolist(),
        **{name: _numbers(values) for name, values in shown.values.items()},
        "diagnostics": {name: _numbers(values) for name, values in shown.diagnostics.items()},
        "signals": SignalSerializer(shown.signals, many=True).data,
    }


def _numbers(values: FloatArray) -> Sequence[float | None]:
    """A column as JSON can say it."""
    known = np.isfinite(values).tolist()
    return [
        value if is_known else None for value, is_known in zip(values.tolist(), known, strict=True)
    ]
