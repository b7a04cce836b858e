"""HTTP: alerts from outside, taken and listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import django_filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.parsers import BaseParser
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.access import RolePermission, may_ingest
from collectors.models import ApiKey, KeyScope
from collectors.once import once
from signals import services
from signals.alertjson import SIZE_LIMIT
from signals.api.filters import MomentFilter
from signals.models import AlertOrigin, AlertVerdict, OutsideAlert

TELLING = (KeyScope.INGEST, KeyScope.TRADER)


class MayIngest(RolePermission):
    """Whoever may trade, a key with the scope for just this, and whoever has the permission for it:
    a bot's login needs no other right, and no role."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS:
            return super().has_permission(request, view)
        if isinstance(request.auth, ApiKey) and request.auth.scope not in TELLING:
            return False
        return may_ingest(request.user)


class BytesParser(BaseParser):
    """The body as it came, up to what an alert may have and one byte more."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The first bytes."""
        return bytes(stream.read(SIZE_LIMIT + 1))


class OutsideAlertSerializer(serializers.ModelSerializer[OutsideAlert]):
    """An alert and its verdict; `signal` is the id of the signal that it became."""

    class Meta:
        model = OutsideAlert
        fields = [
            "id", "key", "verdict", "reason", "asset", "signal_type", "at", "signal", "origin",
            "folder", "file_name", "received_by", "received_at",
        ]  # fmt: skip


class OutsideAlertFilter(django_filters.FilterSet):  # type: ignore[misc]
    """What a list of alerts may be narrowed by: since <= received_at < until."""

    verdict = django_filters.ChoiceFilter(choices=AlertVerdict.choices)
    origin = django_filters.ChoiceFilter(choices=AlertOrigin.choices)
    asset = django_filters.CharFilter()
    since = MomentFilter(field_name="received_at", lookup_expr="gte")
    until = MomentFilter(field_name="received_at", lookup_expr="lt")

    class Meta:
        model = OutsideAlert
        fields = ["verdict", "origin", "asset", "since", "until"]


class IngestView(generics.ListAPIView[OutsideAlert]):
    """What programs outside told, newest first; and the door at which they tell."""

    write_role = "trader"
    permission_classes = [MayIngest]
    parser_classes = [BytesParser]
    queryset = OutsideAlert.objects.all()
    serializer_class = OutsideAlertSerializer
    filterset_class = OutsideAlertFilter

    @once
    @extend_schema(
        request=OpenApiTypes.OBJECT,
        responses={200: OutsideAlertSerializer, 201: OutsideAlertSerializer},
    )
    def post(self, request: Request) -> Response:
        """Take one alert: 201 when it is taken now, 200 when it was before, 400 with the reason
        when it is refused. Sending it again changes nothing."""
        return _ingest(request)


def _ingest(request: Request) -> Response:
    """The answer; a refusal is one too, so that its row is kept."""
    body = request.data if isinstance(request.data, bytes) else b""
    arrival = services.Arrival(
        origin=AlertOrigin.API, raw=body, received_by=request.user.get_username()
    )
    (judgement,) = services.ingest_alerts(arrivals=[arrival])
    alert = judgement.alert
    if alert.verdict == AlertVerdict.REFUSED:
        error = {"code": "invalid", "message": alert.reason, "fields": {}}
        return Response({"error": error}, status=400)
    answer = OutsideAlertSerializer(alert).data
    return Response(answer, status=201 if judgement.is_new else 200)
