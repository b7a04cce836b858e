"""HTTP: macro series as they were known at a moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from collectors import clock
from collectors.access import NewestFirstPagination
from collectors.models import (
    MacroObservation,
    MacroSeries,
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
