"""HTTP: the calls to each provider."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors import clock
from collectors.selectors import budget_today


class BudgetView(APIView):
    """The calls to each provider since midnight (market time), beside the forecast for the whole
    day, the limits, and the naive schedule: every instrument each 15 minutes from two sources."""

    @extend_schema(
        responses=OpenApiTypes.OBJECT,
        parameters=[OpenApiParameter("provider", str, required=False)],
    )
    def get(self, request: Request) -> Response:
        """`providers` has one entry for each, or the one that is asked for."""
        wanted = request.query_params.get("provider")
        budget = budget_today(at=clock.now())
        shown = [item for item in budget["providers"] if wanted in {None, item["provider"]}]
        if not shown:
            known = ", ".join(item["provider"] for item in budget["providers"])
            raise serializers.ValidationError({"provider": [f"one of {known}"]})
        return Response({**budget, "providers": shown})
