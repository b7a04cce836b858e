"""The reports of accounts and backtests over HTTP: JSON, or a page that can do nothing but show
itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import renderers, serializers, status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trading.models import Account, Backtest, BacktestState
from trading.reports.content import Report, make_backtest_report, make_report
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


class NotDone(APIException):
    """The backtest is not finished, or failed, or is of before reports were kept."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "not_done"


class ReportView(APIView):
    """How an account did: execution_summary, performance_metrics and trades."""

    renderer_classes = (renderers.JSONRenderer, PageRenderer)

    @extend_schema(parameters=[ReportQuery], responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, account_id: int) -> HttpResponseBase:
        """JSON, or with `format=html` a page of its own."""
        query = ReportQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        account = get_object_or_404(Account, pk=account_id)
        try:
            report = make_report(account_id=account.pk, **query.validated_data)
        except ValueError as error:
            raise serializers.ValidationError({"end": [str(error)]}) from None
        return _answer(request, report)


class BacktestReportView(APIView):
    """How a backtest did: the same of its run."""

    renderer_classes = (renderers.JSONRenderer, PageRenderer)

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, pk: int) -> HttpResponseBase:
        """JSON, or with `format=html` a page of its own; 409 while there is nothing to report."""
        backtest = get_object_or_404(Backtest, pk=pk)
        if backtest.state != BacktestState.DONE:
            raise NotDone(f"the backtest is {backtest.state}")
        try:
            report = make_backtest_report(backtest=backtest)
        except ValueError as error:
            raise NotDone(str(error)) from None
        return _answer(request, report)


def _answer(request: Request, report: Report) -> HttpResponseBase:
    if getattr(request.accepted_renderer, "format", "") == PageRenderer.format:
        return page_response(report)
    return Response(report.content())


urlpatterns = [
    path("accounts/<int:account_id>/report/", ReportView.as_view()),
    path("backtests/<int:pk>/report/", BacktestReportView.as_view()),
]
