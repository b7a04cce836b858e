"""HTTP: what was wrong with collected values."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from collectors.access import NewestFirstPagination
from collectors.models import FindingVerdict, Instrument, MacroSeries, QualityFinding


class FindingSerializer(serializers.ModelSerializer[QualityFinding]):
    """A value that was rejected or flagged, and why. `at` is its open time or date, `values` what
    the source said, `times` how often it came."""

    instrument = serializers.CharField(source="instrument.coin_id", default=None, allow_null=True)
    series = serializers.CharField(
        source="macro_series.series_id", default=None, allow_null=True, read_only=True
    )

    class Meta:
        model = QualityFinding
        fields = [
            "id", "verdict", "reason", "subject", "instrument", "series", "at", "source", "values",
            "times", "first_seen_at", "last_seen_at",
        ]  # fmt: skip


class FindingQuery(serializers.Serializer[Any]):
    """Which findings; all without parameters."""

    verdict = serializers.ChoiceField(choices=FindingVerdict.choices, required=False)
    reason = serializers.CharField(required=False)
    subject = serializers.CharField(required=False)
    instrument = serializers.SlugRelatedField(
        slug_field="coin_id", queryset=Instrument.objects.all(), required=False
    )
    series = serializers.SlugRelatedField(
        slug_field="series_id", queryset=MacroSeries.objects.all(), required=False
    )


@extend_schema(parameters=[FindingQuery])
class FindingList(generics.ListAPIView[QualityFinding]):
    """The findings about candles and macro values, newest first."""

    serializer_class = FindingSerializer
    pagination_class = NewestFirstPagination
    queryset = QualityFinding.objects.none()

    def get_queryset(self) -> QuerySet[QualityFinding]:
        query = FindingQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        columns = {"series": "macro_series"}
        wanted: dict[str, Any] = query.validated_data
        conditions = {columns.get(name, name): value for name, value in wanted.items()}
        findings = QualityFinding.objects.select_related("instrument", "macro_series")
        return findings.filter(**conditions)
