"""HTTP: sampled tops of books and their spreads."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from collectors.access import NewestFirstPagination
from collectors.models import BookSample, Instrument
from collectors.sources import EXCHANGES


class SpreadSerializer(serializers.ModelSerializer[BookSample]):
    """The top of a book at one of the exchange's own moments."""

    instrument = serializers.SlugRelatedField(slug_field="coin_id", read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = BookSample
        fields = [
            "instrument", "exchange", "symbol", "at", "best_bid", "bid_quantity", "best_ask",
            "ask_quantity", "spread_bps",
        ]  # fmt: skip


class SpreadQuery(serializers.Serializer[Any]):
    """Which samples: start <= at < end."""

    instrument = serializers.SlugRelatedField(
        slug_field="coin_id", queryset=Instrument.objects.all(), required=False
    )
    exchange = serializers.ChoiceField(choices=list(EXCHANGES), required=False)
    start = serializers.DateTimeField(required=False)
    end = serializers.DateTimeField(required=False)


class NewestSampleFirst(NewestFirstPagination):
    """Cursor pages by time; those of one moment in a fixed order."""

    ordering = ("-at", "-id")  # type: ignore[assignment]


@extend_schema(parameters=[SpreadQuery])
class SpreadList(generics.ListAPIView[BookSample]):
    """Sampled spreads, newest first."""

    serializer_class = SpreadSerializer
    pagination_class = NewestSampleFirst
    queryset = BookSample.objects.none()

    def get_queryset(self) -> QuerySet[BookSample]:
        query = SpreadQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        bounds = {"start": "at__gte", "end": "at__lt"}
        wanted = {bounds.get(name, name): value for name, value in query.validated_data.items()}
        return BookSample.objects.filter(**wanted).select_related("instrument")
