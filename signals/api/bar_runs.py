"""HTTP: how the bar runs went."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from rest_framework import generics, serializers

from collectors.access import NewestFirstPagination
from signals.api.filters import MomentFilter, TruthFilter
from signals.models import BarRun, RunState


class BarRunSerializer(serializers.ModelSerializer[BarRun]):
    """One closed bar's run of all strategies.

    `revisions` are those of the series that it saw, `failures` what a strategy raised or why it
    was refused, `withheld` by strategy and coin why a bar could not be computed (`*` is every
    coin), `durations` each strategy's wall seconds.
    """

    revisions = serializers.DictField(child=serializers.IntegerField())
    failures = serializers.DictField(child=serializers.CharField())
    withheld = serializers.DictField(child=serializers.DictField(child=serializers.CharField()))
    durations = serializers.DictField(child=serializers.FloatField())

    class Meta:
        model = BarRun
        fields = [
            "id", "timeframe", "bar_open_time", "state", "is_complete", "signal_count", "failures",
            "withheld", "durations", "revisions", "started_at", "finished_at",
        ]  # fmt: skip


class BarRunFilter(django_filters.FilterSet):  # type: ignore[misc]
    """What a list of runs may be narrowed by: since <= bar_open_time < until."""

    timeframe = django_filters.CharFilter()
    state = django_filters.ChoiceFilter(choices=RunState.choices)
    is_complete = TruthFilter()
    is_failed = TruthFilter(method="with_failures", label="a strategy failed or was refused")
    since = MomentFilter(field_name="bar_open_time", lookup_expr="gte")
    until = MomentFilter(field_name="bar_open_time", lookup_expr="lt")

    class Meta:
        model = BarRun
        fields = ["timeframe", "state", "is_complete", "is_failed", "since", "until"]

    def with_failures(self, queryset: QuerySet[BarRun], _name: str, value: bool) -> Any:
        """Those in which somebody failed, or nobody."""
        nobody = Q(failures={})
        return queryset.filter(~nobody if value else nobody)


class NewestBarFirst(NewestFirstPagination):
    """Cursor pages by bar."""

    ordering = "-bar_open_time"


class BarRunList(generics.ListAPIView[BarRun]):
    """The runs, newest bar first."""

    serializer_class = BarRunSerializer
    filterset_class = BarRunFilter
    pagination_class = NewestBarFirst
    queryset = BarRun.objects.all()
