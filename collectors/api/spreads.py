"""HTTP: what books' spreads and depths were, as samples and by the hour."""

from __future__ import annotations

from typing import Any

from django.db.models import Model, QuerySet
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from collectors.access import NewestFirstPagination
from collectors.models import BookHour, BookSample, Instrument
from collectors.sources import FEEDS

PERIODS = ("sample", "hour")


class SpreadSerializer(serializers.ModelSerializer[BookSample]):
    """A book at one of the exchange's own moments. What only a synchronised book tells is null
    where it was withheld."""

    instrument = serializers.SlugRelatedField(slug_field="coin_id", read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = BookSample
        fields = [
            "instrument", "exchange", "symbol", "at", "best_bid", "bid_quantity", "best_ask",
            "ask_quantity", "spread_bps", "is_synced", "mid_price", "imbalance",
            "bid_depth_10_bps", "ask_depth_10_bps", "bid_depth_50_bps", "ask_depth_50_bps",
        ]  # fmt: skip


class SpreadHourSerializer(serializers.ModelSerializer[BookHour]):
    """One hour of a book; means are weighted by time, in market seconds."""

    instrument = serializers.SlugRelatedField(slug_field="coin_id", read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = BookHour
        fields = [
            "instrument", "exchange", "symbol", "hour", "synced_s", "withheld_s",
            "spread_bps_mean", "spread_bps_min", "spread_bps_max",
            "bid_depth_10_bps", "ask_depth_10_bps", "depth_10_bps_s",
            "bid_depth_50_bps", "ask_depth_50_bps", "depth_50_bps_s",
            "messages", "gaps", "resyncs",
        ]  # fmt: skip


class SpreadQuery(serializers.Serializer[Any]):
    """Which rows: start <= time < end; single samples, or hours."""

    period = serializers.ChoiceField(choices=PERIODS, default="sample")
    instrument = serializers.SlugRelatedField(
        slug_field="coin_id", queryset=Instrument.objects.all(), required=False
    )
    exchange = serializers.ChoiceField(choices=list(FEEDS), required=False)
    start = serializers.DateTimeField(required=False)
    end = serializers.DateTimeField(required=False)


class NewestSpreadFirst(NewestFirstPagination):
    """Cursor pages by time; those of one moment in a fixed order."""

    def get_ordering(
        self, request: Request, queryset: QuerySet[Any], view: APIView
    ) -> tuple[str, ...]:
        """By the column that is the rows' time."""
        return (f"-{_time_of(queryset.model)}", "-id")


@extend_schema(
    parameters=[SpreadQuery],
    responses=PolymorphicProxySerializer(
        component_name="SpreadRow",
        serializers=[SpreadSerializer, SpreadHourSerializer],
        resource_type_field_name=None,
        many=True,
    ),
)
class SpreadList(generics.ListAPIView[Any]):
    """Sampled spreads, or with `period=hour` their hourly statistics, newest first."""

    serializer_class = SpreadSerializer
    pagination_class = NewestSpreadFirst
    queryset = BookSample.objects.none()

    def get_queryset(self) -> QuerySet[Any]:
        query = SpreadQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        given: dict[str, Any] = dict(query.validated_data)
        model = BookHour if given.pop("period") == "hour" else BookSample
        time = _time_of(model)
        bounds = {"start": f"{time}__gte", "end": f"{time}__lt"}
        wanted = {bounds.get(name, name): value for name, value in given.items()}
        return model._default_manager.filter(**wanted).select_related("instrument")

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        is_hourly = self.request.query_params.get("period") == "hour"
        return SpreadHourSerializer if is_hourly else SpreadSerializer


def _time_of(model: type[Model]) -> str:
    return "hour" if model is BookHour else "at"
