"""Alerts and their deliveries over HTTP."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from alerts import services
from alerts.models import Alert, Delivery
from alerts.selectors import alert_json
from collectors.once import once


class AlertList(generics.ListAPIView[Alert]):
    """The alerts, newest first; `kind` and `asset` filter them."""

    class AlertSerializer(serializers.ModelSerializer[Alert]):
        class Meta:
            model = Alert
            fields = ["id", "kind", "asset", "title", "at", "payload"]

        def to_representation(self, instance: Alert) -> dict[str, Any]:
            return alert_json(instance)

    queryset = Alert.objects.all()
    serializer_class = AlertSerializer
    filterset_fields = ["kind", "asset"]


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """Where one alert stands on its way through one transport."""

    class Meta:
        model = Delivery
        fields = [
            "id",
            "alert",
            "transport",
            "state",
            "detail",
            "attempt",
            "sent_at",
            "next_attempt_at",
        ]


class DeliveryList(generics.ListAPIView[Delivery]):
    """The deliveries, newest first; `state`, `transport` and `alert` filter them."""

    queryset = Delivery.objects.all()
    serializer_class = DeliverySerializer
    filterset_fields = ["state", "transport", "alert"]


class DeliveryRetry(generics.GenericAPIView[Delivery]):
    """Try a failed delivery anew."""

    serializer_class = DeliverySerializer

    @once
    @extend_schema(request=None, responses={202: DeliverySerializer})
    def post(self, request: Request, pk: int) -> Response:
        try:
            delivery = services.retry_delivery(delivery_id=pk)
        except Delivery.DoesNotExist:
            raise NotFound(f"there is no delivery {pk}") from None
        return Response(DeliverySerializer(delivery).data, status=202)


urlpatterns = [
    path("alerts/", AlertList.as_view()),
    path("deliveries/", DeliveryList.as_view()),
    path("deliveries/<int:pk>/retry/", DeliveryRetry.as_view()),
]
