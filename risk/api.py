"""Risk over HTTP: the limits of each profile. Its trading state is in `trading.api`, whose
orders it stops."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.once import KEY_PARAMETER, answer_once
from collectors.strict import StrictSerializer
from risk.declarations import BY_NAME
from risk.models import RiskLimit, RiskProfile
from risk.selectors import limit_rows
from risk.services import change_limit, keep_refusal

SOME = 20  # names that an error tells


def _asked_profile(name: str) -> RiskProfile:
    """The named profile; the only one when none is named. Raises ValidationError for one of several
    that was not named."""
    if name:
        return get_object_or_404(RiskProfile, name=name)
    names = list(RiskProfile.objects.order_by("pk").values_list("name", flat=True)[:SOME])
    if len(names) > 1:
        raise serializers.ValidationError({"profile": [f"name one: {', '.join(names)}"]})
    return get_object_or_404(RiskProfile)


class LimitSerializer(serializers.ModelSerializer[RiskLimit]):
    """One limit: its value, what it means, and the inclusive bounds of a change."""

    profile = serializers.CharField(source="profile.name")
    default = serializers.SerializerMethodField(method_name="get_first_value")
    low = serializers.SerializerMethodField()
    high = serializers.SerializerMethodField()
    unit = serializers.SerializerMethodField()
    side = serializers.SerializerMethodField()
    text = serializers.SerializerMethodField()

    class Meta:
        model = RiskLimit
        fields = [
            "profile", "name", "strategy", "value", "default", "low", "high", "unit", "side",
            "text", "changed_by", "changed_at",
        ]  # fmt: skip

    def get_first_value(self, limit: RiskLimit) -> float:
        """The value of a new profile."""
        return BY_NAME[limit.name].default

    def get_low(self, limit: RiskLimit) -> float:
        """The least value that may be set."""
        return BY_NAME[limit.name].low

    def get_high(self, limit: RiskLimit) -> float:
        """The greatest value that may be set."""
        return BY_NAME[limit.name].high

    def get_unit(self, limit: RiskLimit) -> str:
        """What the value is a number of."""
        return BY_NAME[limit.name].unit

    def get_side(self, limit: RiskLimit) -> str:
        """ceiling, floor or setting."""
        return BY_NAME[limit.name].side

    def get_text(self, limit: RiskLimit) -> str:
        """What the limit is for."""
        return BY_NAME[limit.name].text


class LimitsView(APIView):
    """Every limit of every profile."""

    @extend_schema(responses=LimitSerializer(many=True))
    def get(self, request: Request) -> Response:
        """All limits, by profile and name."""
        rows = [row for profile in RiskProfile.objects.all() for row in limit_rows(profile=profile)]
        return Response({"results": LimitSerializer(rows, many=True).data})


class LimitView(APIView):
    """One limit of one profile."""

    write_role = "trader"

    class LimitChangeSerializer(StrictSerializer):
        """The new value and why; the profile may be left out where there is one.

        With a strategy it holds for that one alone, where the limit may be granted so.
        """

        profile = serializers.CharField(default="")
        strategy = serializers.CharField(default="", max_length=64, allow_blank=True)
        value = serializers.FloatField()
        reason = serializers.CharField(default="", max_length=200, allow_blank=True)

    @extend_schema(
        request=LimitChangeSerializer, responses=LimitSerializer, parameters=[KEY_PARAMETER]
    )
    def patch(self, request: Request, name: str) -> Response:
        """Change the limit, within its bounds; who, what and why is kept."""
        try:
            said = request.data
        except APIException as error:
            self._keep_refusal(request, name, {}, {"body": [error.detail]})
            raise
        asked = self.LimitChangeSerializer(data=said)
        if not asked.is_valid():
            self._keep_refusal(request, name, said, asked.errors)
            asked.is_valid(raise_exception=True)
        wish = {**asked.validated_data, "name": name, "by": request.user.get_username()}
        return answer_once(request, partial(self._change, wish))

    def _keep_refusal(self, request: Request, name: str, body: Any, errors: Any) -> None:
        """A row beside the changes for what was no number, or no request at all."""
        said = body if isinstance(body, dict) else {}
        named = str(said.get("profile") or "").replace("\x00", "")
        profiles = RiskProfile.objects.order_by("pk")
        profile = (profiles.filter(name=named) if named else profiles).first()
        if profile is not None:
            faults = (f"{field}: {' '.join(map(str, lines))}" for field, lines in errors.items())
            keep_refusal(
                profile_id=profile.pk,
                name=name,
                asked=str(said.get("value", "")),
                refusal="; ".join(faults),
                by=request.user.get_username(),
            )

    def _change(self, wish: dict[str, Any]) -> Response:
        profile = _asked_profile(wish.pop("profile"))
        try:
            limit = change_limit(profile_id=profile.pk, **wish)
        except ValidationError as refused:
            # Answered and not raised, which would undo the row of the attempt where there is a key.
            error = {
                "code": "invalid",
                "message": "the request is not valid",
                "fields": refused.message_dict,
            }
            return Response({"error": error}, status=status.HTTP_400_BAD_REQUEST)
        return Response(LimitSerializer(limit).data)


urlpatterns = [
    path("risk/limits/", LimitsView.as_view()),
    path("risk/limits/<str:name>/", LimitView.as_view()),
]
