"""HTTP: the calls to each provider."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors import clock
from collectors.selectors import budget_today


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
