"""HTTP: where the heat of an account lies, and what it may lose in a day."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trading.api.rows import asked_account
from trading.heat import heat_json


class CorrelationSerializer(serializers.Serializer[Any]):
    """Of 30 daily closes of a pair; null where it is unknown."""

    instruments = serializers.ListField(child=serializers.CharField())
    correlation = serializers.FloatField(allow_null=True)


class TailSerializer(serializers.Serializer[Any]):
    """What may be lost, positive, in quote units; null where it is undefined."""

    horizon_days = serializers.IntegerField()
    confidence = serializers.FloatField()
    days = serializers.IntegerField()
    historical_var = serializers.FloatField(allow_null=True)
    historical_shortfall = serializers.FloatField(allow_null=True)
    parametric_var = serializers.FloatField(allow_null=True)
    parametric_shortfall = serializers.FloatField(allow_null=True)


class ExposureSerializer(serializers.Serializer[Any]):
    """Exposure as fractions of equity: by instrument signed, by sector gross."""

    equity = serializers.FloatField()
    gross = serializers.FloatField()
    by_instrument = serializers.DictField(child=serializers.FloatField())
    by_sector = serializers.DictField(child=serializers.FloatField())
    by_direction = serializers.DictField(child=serializers.FloatField())
    correlation_weighted = serializers.FloatField()
    correlations = CorrelationSerializer(many=True)
    tail = TailSerializer()


class HeatSerializer(serializers.Serializer[Any]):
    """The heat beside its limits; null when no equity is left."""

    account = serializers.IntegerField()
    limits = serializers.DictField(child=serializers.FloatField())
    heat = ExposureSerializer(allow_null=True)


class HeatView(APIView):
    """The heat of what an account holds."""

    @extend_schema(responses=HeatSerializer)
    def get(self, request: Request, account_id: int) -> Response:
        """Marked at the newest closes; tails by a year of daily closes."""
        return Response(heat_json(account=asked_account(account_id)))


urlpatterns = [path("accounts/<int:account_id>/heat/", HeatView.as_view())]
