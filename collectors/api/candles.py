"""HTTP: stored candles, and what of them is missing."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from collectors.access import NewestFirstPagination
from collectors.marketdata import TIMEFRAMES
from collectors.models import (
    CandleHole,
    CollectionState,
    Instrument,
    Ohlcv,
)


class CandleSerializer(serializers.ModelSerializer[Ohlcv]):
    """A closed candle; the volume is null where its source has none."""

    class Meta:
        model = Ohlcv
        fields = ["open_time", "open", "high", "low", "close", "volume", "source", "is_sampled"]


class CandleQuery(serializers.Serializer[Any]):
    """Which candles: start <= open_time < end."""

    instrument = serializers.SlugRelatedField(
        slug_field="coin_id", queryset=Instrument.objects.all()
    )
    timeframe = serializers.ChoiceField(choices=list(TIMEFRAMES), default="1h")
    start = serializers.DateTimeField(required=False)
    end = serializers.DateTimeField(required=False)


class OldestFirst(NewestFirstPagination):
    """Cursor pages by open time."""

    ordering = "open_time"


@extend_schema(parameters=[CandleQuery])
class CandleList(generics.ListAPIView[Ohlcv]):
    """The stored candles of one instrument and timeframe, oldest first."""

    serializer_class = CandleSerializer
    pagination_class = OldestFirst
    queryset = Ohlcv.objects.none()

    def get_queryset(self) -> QuerySet[Ohlcv]:
        query = CandleQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        wanted = query.validated_data
        candles = Ohlcv.objects.filter(
            instrument=wanted["instrument"], timeframe=wanted["timeframe"]
        )
        if "start" in wanted:
            candles = candles.filter(open_time__gte=wanted["start"])
        if "end" in wanted:
            candles = candles.filter(open_time__lt=wanted["end"])
        return candles


class HoleSerializer(serializers.ModelSerializer[CandleHole]):
    """A run of missing candles; `start` and `end` are open times, both missing."""

    class Meta:
        model = CandleHole
        fields = ["start", "end", "label", "detail", "seen_at"]


class CoverageSerializer(serializers.ModelSerializer[CollectionState]):
    """How the collection of one series stands, with its holes."""

    instrument = serializers.CharField(source="instrument.coin_id")
    holes = serializers.SerializerMethodField()

    class Meta:
        model = CollectionState
        fields = [
            "instrument", "timeframe", "last_success_at", "last_error", "consecutive_failures",
            "attempts", "successes", "history_from", "holes",
        ]  # fmt: skip

    @extend_schema(responses=HoleSerializer(many=True))
    def get_holes(self, state: CollectionState) -> list[dict[str, Any]]:
        """The labelled holes of the series."""
        holes = [hole for hole in state.instrument.holes.all() if hole.timeframe == state.timeframe]
        return HoleSerializer(holes, many=True).data  # type: ignore[return-value]


class CoverageList(generics.ListAPIView[CollectionState]):
    """Every collected series with its holes."""

    serializer_class = CoverageSerializer
    queryset = CollectionState.objects.select_related("instrument").prefetch_related(
        "instrument__holes"
    )
