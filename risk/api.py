"""Risk over HTTP: the limits of each profile and its trading state."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from risk.models import RiskProfile, TradingState
from risk.selectors import LIMIT_NAMES
from risk.services import change_limit, set_trading_state


def _asked_profile(name: str) -> RiskProfile:
    """The named profile, or the first one when none is named."""
    if name:
        return get_object_or_404(RiskProfile, name=name)
    return get_object_or_404(RiskProfile.objects.order_by("pk")[:1])


class LimitsView(APIView):
    """Every limit of every profile."""

    class LimitSerializer(serializers.Serializer[Any]):
        """One limit; fractions are of equity."""

        profile = serializers.CharField()
        name = serializers.CharField()
        value = serializers.FloatField()

    @extend_schema(responses=LimitSerializer(many=True))
    def get(self, request: Request) -> Response:
        """All limits, by profile and name."""
        rows = [
            {"profile": profile.name, "name": name, "value": getattr(profile, name)}
            for profile in RiskProfile.objects.all()
            for name in LIMIT_NAMES
        ]
        return Response({"results": self.LimitSerializer(rows, many=True).data})


class LimitView(APIView):
    """One limit of one profile."""

    write_role = "trader"

    class LimitChangeSerializer(serializers.Serializer[Any]):
        """The new value; without a profile the first one is meant."""

        profile = serializers.CharField(default="")
        value = serializers.FloatField()

    @extend_schema(request=LimitChangeSerializer, responses=LimitsView.LimitSerializer)
    def patch(self, request: Request, name: str) -> Response:
        """Change the limit, within its bounds."""
        asked = self.LimitChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        profile = change_limit(
            profile_id=_asked_profile(asked.validated_data["profile"]).pk,
            name=name,
            value=asked.validated_data["value"],
        )
        row = {"profile": profile.name, "name": name, "value": getattr(profile, name)}
        return Response(LimitsView.LimitSerializer(row).data)


class TradingStateView(APIView):
    """The switch: active, reducing or halted, with who and why."""

    write_role = "trader"

    class StateSerializer(serializers.ModelSerializer[RiskProfile]):
        """A profile's switch."""

        profile = serializers.CharField(source="name")
        state = serializers.CharField(source="trading_state")
        reason = serializers.CharField(source="state_reason")
        by = serializers.CharField(source="state_changed_by")
        changed_at = serializers.DateTimeField(source="state_changed_at", allow_null=True)

        class Meta:
            model = RiskProfile
            fields = ["profile", "state", "reason", "by", "changed_at"]

    class StateChangeSerializer(serializers.Serializer[Any]):
        """The wanted state; without a profile the first one is meant."""

        profile = serializers.CharField(default="")
        state = serializers.ChoiceField(choices=TradingState.choices)
        reason = serializers.CharField(max_length=200)

    @extend_schema(responses=StateSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The switch of every profile."""
        profiles = RiskProfile.objects.all()
        return Response({"results": self.StateSerializer(profiles, many=True).data})

    @extend_schema(request=StateChangeSerializer, responses=StateSerializer)
    def post(self, request: Request) -> Response:
        """Throw the switch; after the answer no opening order commits."""
        asked = self.StateChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        profile = set_trading_state(
            profile_id=_asked_profile(asked.validated_data["profile"]).pk,
            state=asked.validated_data["state"],
            reason=asked.validated_data["reason"],
            by=request.user.get_username(),
        )
        return Response(self.StateSerializer(profile).data)


urlpatterns = [
    path("risk/limits/", LimitsView.as_view()),
    path("risk/limits/<str:name>/", LimitView.as_view()),
    path("risk/state/", TradingStateView.as_view()),
]
