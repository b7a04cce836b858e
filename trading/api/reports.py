"""The report of an account over HTTP: JSON, or a page that can do nothing but show itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import renderers, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trading.models import Account
from trading.reports.content import make_report
from trading.reports.page import page_response


class PageRenderer(renderers.BaseRenderer):
    """Stands for HTML in the choice of a format; only an error comes to it as values."""

    media_type = "text/html"
    format = "html"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> str:
        """An error's text; in a page it could say anything, so it is no page."""
        if renderer_context is not None:
            renderer_context["response"]["Content-Type"] = "application/json"
        return json.dumps(data)


class ReportQuery(serializers.Serializer[Any]):
    """What is reported: (start, end] in market time, the account's life by default."""

    start = serializers.DateTimeField(required=False)
    end = serializers.DateTimeField(required=False)


class ReportView(APIView):
    """How an account did: execution_summary, performance_metrics and trades."""

    renderer_classes = (renderers.JSONRenderer, PageRenderer)

    @extend_schema(parameters=[ReportQuery], responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, account_id: int) -> HttpResponseBase:
        """JSON, or with `format=html` a page of its own."""
        query = ReportQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        return _answer(request, get_object_or_404(Account, pk=account_id), **query.validated_data)


def _answer(
    request: Request, account: Account, start: datetime | None = None, end: datetime | None = None
) -> HttpResponseBase:
    try:
        report = make_report(account_id=account.pk, start=start, end=end)
    except ValueError as error:
        raise serializers.ValidationError({"end": [str(error)]}) from None
    if getattr(request.accepted_renderer, "format", "") == PageRenderer.format:
        return page_response(report)
    return Response(report.content())


urlpatterns = [path("accounts/<int:account_id>/report/", ReportView.as_view())]
