"""HTTP: macro series as they were known at a moment, and how their collection stands."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from collectors import clock
from collectors.access import NewestFirstPagination
from collectors.macro_registry import is_stale
from collectors.models import MacroObservation, MacroSeries
from collectors.releases import day_in_chicago
from collectors.selectors import macro_on_days
from collectors.vintages import MacroValue

DAYS_PER_PAGE = 1000


class MacroSerializer(serializers.ModelSerializer[MacroObservation]):
    """An observation as it was known: a day's own value, neither filled nor interpolated."""

    is_interpolated = serializers.BooleanField(default=False, read_only=True)
    is_forward_filled = serializers.BooleanField(default=False, read_only=True)

    class Meta:
        model = MacroObservation
        fields = [
            "date", "value", "released_at", "is_release_assumed", "is_interpolated",
            "is_forward_filled",
        ]  # fmt: skip


class MacroQuery(serializers.Serializer[Any]):
    """Which series, and the moment (market time) whose knowledge is wanted; start <= date < end.

    With `fill=daily` every calendar day is a row: one without an observation carries the one
    before, flagged, or with `interpolate` lies between its neighbours, flagged as that, where both
    were known.
    """

    series = serializers.SlugRelatedField(
        slug_field="series_id", queryset=MacroSeries.objects.all()
    )
    as_of = serializers.DateTimeField(required=False)
    start = serializers.DateField(required=False)
    end = serializers.DateField(required=False)
    fill = serializers.ChoiceField(choices=["daily"], required=False)
    interpolate = serializers.BooleanField(default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Interpolation needs the days that it fills."""
        if attrs["interpolate"] and "fill" not in attrs:
            raise serializers.ValidationError({"interpolate": "only with fill=daily"})
        return attrs


class NewestDateFirst(NewestFirstPagination):
    """Cursor pages by observation date."""

    ordering = "-date"


@extend_schema(parameters=[MacroQuery])
class MacroList(generics.ListAPIView[MacroObservation]):
    """A series as it was known at `as_of` (default: now), newest date first.

    No value that was released later is in it, whatever the dates.
    """

    serializer_class = MacroSerializer
    pagination_class = NewestDateFirst
    queryset = MacroObservation.objects.none()

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The observations, or with `fill=daily` the days."""
        query = MacroQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        if "fill" in query.validated_data:
            return _days(request, query.validated_data)
        return super().list(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[MacroObservation]:
        query = MacroQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        return _known(query.validated_data)


def _known(wanted: dict[str, Any]) -> QuerySet[MacroObservation]:
    as_of: datetime = wanted.get("as_of") or clock.now()
    known = MacroObservation.objects.filter(series=wanted["series"], released_at__lte=as_of)
    if "start" in wanted:
        known = known.filter(date__gte=wanted["start"])
    if "end" in wanted:
        known = known.filter(date__lt=wanted["end"])
    newer = known.filter(date=OuterRef("date"), realtime_start__gt=OuterRef("realtime_start"))
    return known.filter(~Exists(newer))


def _days(request: Request, wanted: dict[str, Any]) -> Response:
    """A page of days, newest first; the next page ends where this one begins."""
    as_of: datetime = wanted.get("as_of") or clock.now()
    observed = _known({"series": wanted["series"], "as_of": as_of}).order_by("date").first()
    end: date = min(wanted.get("end") or date.max, as_of.date() + timedelta(days=1))
    start: date = max(wanted.get("start") or date.min, observed.date if observed else end)
    first = max(start, end - timedelta(days=DAYS_PER_PAGE)) if start < end else end
    days = [end - timedelta(days=1 + number) for number in range((end - first).days)]
    values = macro_on_days(
        series_id=wanted["series"].series_id,
        days=days,
        as_of=as_of,
        interpolate=wanted["interpolate"],
    )
    following = None
    if first > start:
        pinned = replace_query_param(request.build_absolute_uri(), "as_of", as_of.isoformat())
        following = replace_query_param(pinned, "end", first.isoformat())
    rows = [_day(day, value) for day, value in zip(days, values, strict=True) if value is not None]
    return Response({"next": following, "previous": None, "results": rows})


def _day(day: date, value: MacroValue) -> dict[str, Any]:
    row = {
        "date": day,
        "value": value.value,
        "released_at": value.released_at,
        "is_release_assumed": value.is_release_assumed,
        "is_interpolated": value.is_interpolated,
        "is_forward_filled": value.is_forward_filled,
    }
    return dict(MacroSerializer(row).data)  # type: ignore[arg-type]


class MacroSeriesSerializer(serializers.ModelSerializer[MacroSeries]):
    """A series, and how its collection stands. `is_stale`: its newest observation is older than
    its rhythm allows."""

    newest_date = serializers.DateField(read_only=True, allow_null=True)
    is_stale = serializers.SerializerMethodField()
    findings = serializers.IntegerField(source="finding_count", read_only=True)

    class Meta:
        model = MacroSeries
        fields = [
            "series_id", "name", "units", "frequency", "is_enabled", "newest_date", "is_stale",
            "last_success_at", "last_error", "consecutive_failures", "retry_at", "findings",
        ]  # fmt: skip

    def get_is_stale(self, series: MacroSeries) -> bool:
        """Whether a newer observation should be there by now (market time)."""
        newest: date | None = series.newest_date  # type: ignore[attr-defined]
        today = day_in_chicago(clock.now())
        return newest is not None and is_stale(series.series_id, newest, today)


_OBSERVATIONS = MacroObservation.objects.filter(series=OuterRef("pk"))


class MacroSeriesList(generics.ListAPIView[MacroSeries]):
    """Every macro series with its newest observation, its last error and its findings."""

    serializer_class = MacroSeriesSerializer
    pagination_class = None
    queryset = MacroSeries.objects.annotate(
        newest_date=Subquery(_OBSERVATIONS.order_by("-date").values("date")[:1]),
        finding_count=Count("findings"),
    )
