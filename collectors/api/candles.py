"""HTTP: stored candles."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from collectors.access import NewestFirstPagination
from collectors.derived import DERIVED_FROM
from collectors.marketdata import TIMEFRAMES
from collectors.models import (
    Instrument,
    Ohlcv,
)
from collectors.selectors.pages import DerivedCandles, HistoryCandle


class CandleSerializer(serializers.ModelSerializer[Ohlcv]):
    """A closed candle; the volume is null where its source has none. A derived candle is made from
    shorter ones, and names all their sources."""

    is_derived = serializers.SerializerMethodField()

    class Meta:
        model = Ohlcv
        fields = [
            "open_time", "open", "high", "low", "close", "volume", "source", "is_sampled",
            "is_derived",
        ]  # fmt: skip

    def get_is_derived(self, candle: Ohlcv | HistoryCandle) -> bool:
        """Whether the candle was made from shorter ones."""
        return isinstance(candle, HistoryCandle) and candle.is_derived


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
        """The stored candles; of a derived timeframe those that are made from them, which page
        as a query does."""
        query = CandleQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        wanted = query.validated_data
        if wanted["timeframe"] in DERIVED_FROM:
            return DerivedCandles.of(  # type: ignore[return-value]
                wanted["instrument"], wanted["timeframe"], wanted.get("start"), wanted.get("end")
            )
        candles = Ohlcv.objects.filter(
            instrument=wanted["instrument"], timeframe=wanted["timeframe"]
        )
        if "start" in wanted:
            candles = candles.filter(open_time__gte=wanted["start"])
        if "end" in wanted:
            candles = candles.filter(open_time__lt=wanted["end"])
        return candles
