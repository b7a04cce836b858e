"""HTTP: when followed books were not to be had."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from collectors.access import NewestFirstPagination
from collectors.models import BookDowntime, Instrument
from collectors.sources import FEEDS


class DowntimeSerializer(serializers.ModelSerializer[BookDowntime]):
    """A while in which a book was withheld, in wall time; `ended_at` and `seconds` are null while
    it lasts. `at` is the market time of its beginning."""

    instrument = serializers.SlugRelatedField(slug_field="coin_id", read_only=True)  # type: ignore[var-annotated]
    seconds = serializers.FloatField(read_only=True, allow_null=True)

    class Meta:
        model = BookDowntime
        fields = [
            "instrument", "exchange", "symbol", "began_at", "ended_at", "seconds", "reason", "at",
        ]  # fmt: skip


class DowntimeQuery(serializers.Serializer[Any]):
    """Which downtimes: those that lasted at some time of start <= time < end (wall time);
    `is_open` narrows to those that still last, or do not."""

    instrument = serializers.SlugRelatedField(
        slug_field="coin_id", queryset=Instrument.objects.all(), required=False
    )
    exchange = serializers.ChoiceField(choices=list(FEEDS), required=False)
    start = serializers.DateTimeField(required=False)
    end = serializers.DateTimeField(required=False)
    is_open = serializers.BooleanField(required=False, allow_null=True, default=None)


class NewestDowntimeFirst(NewestFirstPagination):
    """Cursor pages by beginning; those of one moment in a fixed order."""

    ordering = ("-began_at", "-id")  # type: ignore[assignment]


@extend_schema(parameters=[DowntimeQuery])
class DowntimeList(generics.ListAPIView[BookDowntime]):
    """Downtimes of books, newest first."""

    serializer_class = DowntimeSerializer
    pagination_class = NewestDowntimeFirst
    queryset = BookDowntime.objects.none()

    def get_queryset(self) -> QuerySet[BookDowntime]:
        query = DowntimeQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        given = query.validated_data
        rows = BookDowntime.objects.select_related("instrument")
        if given["is_open"] is not None:
            rows = rows.filter(ended_at__isnull=given["is_open"])
        if "start" in given:
            rows = rows.filter(Q(ended_at__gt=given["start"]) | Q(ended_at=None))
        if "end" in given:
            rows = rows.filter(began_at__lt=given["end"])
        named = {name: given[name] for name in ("instrument", "exchange") if name in given}
        return rows.filter(**named)
