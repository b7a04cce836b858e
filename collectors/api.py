"""The HTTP door of the collected data: instruments, candles, coverage, macro, call budget."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors import clock
from collectors.access import NewestFirstPagination
from collectors.marketdata import TIMEFRAMES
from collectors.models import (
    CandleHole,
    CollectionState,
    Instrument,
    Listing,
    MacroObservation,
    MacroSeries,
    Ohlcv,
)
from collectors.selectors import budget_today
from collectors.sources import EXCHANGES

CANDLE_SOURCES = (*EXCHANGES, "coingecko")


class ListingSerializer(serializers.ModelSerializer[Listing]):
    """A symbol at an exchange while it is valid."""

    class Meta:
        model = Listing
        fields = [
            "exchange", "symbol", "valid_from", "valid_to", "tick_size", "quantity_step",
            "min_notional",
        ]  # fmt: skip


class InstrumentSerializer(serializers.ModelSerializer[Instrument]):
    """An instrument; how it is collected may be changed, what it is may not."""

    source_chain = serializers.ListField(
        child=serializers.ChoiceField(choices=CANDLE_SOURCES), allow_empty=False
    )
    timeframes = serializers.ListField(child=serializers.CharField(), read_only=True)
    listings = ListingSerializer(many=True, read_only=True)

    class Meta:
        model = Instrument
        fields = [
            "id", "coin_id", "symbol", "name", "sector", "tier", "source_chain", "is_enabled",
            "is_strategy_enabled", "timeframes", "listings",
        ]  # fmt: skip
        read_only_fields = ["coin_id", "symbol", "name", "sector"]


class InstrumentList(generics.ListAPIView[Instrument]):
    """All instruments with their listings."""

    serializer_class = InstrumentSerializer
    queryset = Instrument.objects.prefetch_related("listings")


class InstrumentDetail(generics.RetrieveUpdateAPIView[Instrument]):
    """One instrument; PATCH changes tier, source chain and what it is enabled for."""

    serializer_class = InstrumentSerializer
    queryset = Instrument.objects.prefetch_related("listings")
    http_method_names = ["get", "patch", "head", "options"]


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


class MacroSerializer(serializers.ModelSerializer[MacroObservation]):
    """An observation as it was known; only published values are stored, so none is filled."""

    is_interpolated = serializers.BooleanField(default=False, read_only=True)
    is_forward_filled = serializers.BooleanField(default=False, read_only=True)

    class Meta:
        model = MacroObservation
        fields = [
            "date", "value", "released_at", "is_release_assumed", "is_interpolated",
            "is_forward_filled",
        ]  # fmt: skip


class MacroQuery(serializers.Serializer[Any]):
    """Which series, and the moment (market time) whose knowledge is wanted."""

    series = serializers.SlugRelatedField(
        slug_field="series_id", queryset=MacroSeries.objects.all()
    )
    as_of = serializers.DateTimeField(required=False)


class NewestDateFirst(NewestFirstPagination):
    """Cursor pages by observation date."""

    ordering = "-date"


@extend_schema(parameters=[MacroQuery])
class MacroList(generics.ListAPIView[MacroObservation]):
    """The observations of a series as they were known at `as_of` (default: now)."""

    serializer_class = MacroSerializer
    pagination_class = NewestDateFirst
    queryset = MacroObservation.objects.none()

    def get_queryset(self) -> QuerySet[MacroObservation]:
        query = MacroQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        as_of: datetime = query.validated_data.get("as_of") or clock.now()
        known = MacroObservation.objects.filter(
            series=query.validated_data["series"], released_at__lte=as_of
        )
        newer = known.filter(date=OuterRef("date"), realtime_start__gt=OuterRef("realtime_start"))
        return known.filter(~Exists(newer))


class BudgetView(APIView):
    """The calls to each provider since midnight (market time) and the busiest minute's share of
    the provider's limit."""

    @extend_schema(
        responses=OpenApiTypes.OBJECT,
        parameters=[OpenApiParameter("provider", str, required=False)],
    )
    def get(self, request: Request) -> Response:
        """One entry for each provider."""
        wanted = request.query_params.get("provider")
        budget = budget_today(at=clock.now())
        return Response([entry for entry in budget if wanted in {None, entry["provider"]}])


urlpatterns = [
    path("instruments/", InstrumentList.as_view()),
    path("instruments/<int:pk>/", InstrumentDetail.as_view()),
    path("candles/", CandleList.as_view()),
    path("coverage/", CoverageList.as_view()),
    path("macro/", MacroList.as_view()),
    path("budget/", BudgetView.as_view()),
]
