"""HTTP: how complete the stored candles are, and what of them is missing."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from collectors import clock, services
from collectors.marketdata import TIMEFRAMES
from collectors.models import DERIVED_TIMEFRAMES, CandleHole, CollectionState, Instrument
from collectors.selectors import SeriesKey, SeriesTotals, series_totals


class HoleSerializer(serializers.ModelSerializer[CandleHole]):
    """A run of missing candles; `start` and `end` are open times, both missing."""

    class Meta:
        model = CandleHole
        fields = ["start", "end", "label", "detail", "seen_at"]


class DerivedSerializer(serializers.Serializer[Any]):
    """A timeframe that is not collected: its candles are made from those of another."""

    timeframe = serializers.CharField()
    is_derived = serializers.BooleanField()
    derived_from = serializers.CharField()


class CoverageSerializer(serializers.ModelSerializer[CollectionState]):
    """How the collection of one series stands, with its holes.

    `expected` closed bars are required since the begin of the default history, or since any source
    has the coin; `lacking` of them may still come. `success_rate` (0 to 1) and `response_ms`, the
    mean of the last collection, are null before the first; `next_due_at` is market time.
    """

    instrument = serializers.CharField(source="instrument.coin_id")
    is_derived = serializers.SerializerMethodField()
    success_rate = serializers.FloatField(allow_null=True, read_only=True)
    expected = serializers.SerializerMethodField()
    stored = serializers.SerializerMethodField()
    lacking = serializers.SerializerMethodField()
    covered_pct = serializers.SerializerMethodField()
    derived = serializers.SerializerMethodField()
    holes = serializers.SerializerMethodField()

    class Meta:
        model = CollectionState
        fields = [
            "instrument", "timeframe", "is_derived", "expected", "stored", "lacking", "covered_pct",
            "last_success_at", "last_error", "consecutive_failures", "attempts", "successes",
            "success_rate", "response_ms", "next_due_at", "history_from", "derived", "holes",
        ]  # fmt: skip

    def get_is_derived(self, state: CollectionState) -> bool:
        """Whether the candles are made from those of another timeframe."""
        return state.timeframe in DERIVED_TIMEFRAMES

    def get_expected(self, state: CollectionState) -> int:
        """The closed bars that are required."""
        return self._totals(state).expected

    def get_stored(self, state: CollectionState) -> int:
        """Those of them that are there."""
        return self._totals(state).stored

    def get_lacking(self, state: CollectionState) -> int:
        """Those of them that may still come."""
        return self._totals(state).lacking

    def get_covered_pct(self, state: CollectionState) -> float | None:
        """The share that is there; null when none is required."""
        return self._totals(state).covered_pct

    @extend_schema(responses=DerivedSerializer(many=True))
    def get_derived(self, state: CollectionState) -> list[dict[str, Any]]:
        """The timeframes that are made from this one."""
        return [
            {"timeframe": name, "is_derived": True, "derived_from": base}
            for name, base in DERIVED_TIMEFRAMES.items()
            if base == state.timeframe
        ]

    @extend_schema(responses=HoleSerializer(many=True))
    def get_holes(self, state: CollectionState) -> list[dict[str, Any]]:
        """The labelled holes of the series."""
        holes = [hole for hole in state.instrument.holes.all() if hole.timeframe == state.timeframe]
        return HoleSerializer(holes, many=True).data  # type: ignore[return-value]

    def _totals(self, state: CollectionState) -> SeriesTotals:
        totals: SeriesTotals = self.context["totals"][state.instrument_id, state.timeframe]
        return totals


class CoverageQuery(serializers.Serializer[Any]):
    """Which series; all without parameters."""

    instrument = serializers.SlugRelatedField(
        slug_field="coin_id", queryset=Instrument.objects.all(), required=False
    )
    timeframe = serializers.ChoiceField(choices=list(TIMEFRAMES), required=False)


@extend_schema(parameters=[CoverageQuery])
class CoverageList(generics.ListAPIView[CollectionState]):
    """Every collected series with its counts and holes."""

    serializer_class = CoverageSerializer
    queryset = CollectionState.objects.select_related("instrument").prefetch_related(
        "instrument__holes"
    )

    def get_queryset(self) -> QuerySet[CollectionState]:
        """The series that are asked for."""
        query = CoverageQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        return super().get_queryset().filter(**query.validated_data)

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One page; the counts of all its series come from two queries."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset())) or []
        totals = series_totals(
            series=[SeriesKey(item.instrument, item.timeframe, item.history_from) for item in page],
            required_from=services.default_history_start(),
            now=clock.now(),
        )
        context = {**self.get_serializer_context(), "totals": totals}
        rows = CoverageSerializer(page, many=True, context=context).data
        return self.get_paginated_response(rows)
