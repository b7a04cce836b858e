"""HTTP: the assessment of a request that nobody executes."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from django.shortcuts import get_object_or_404
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.models import Instrument
from collectors.once import KEY_PARAMETER, answer_once
from collectors.strict import StrictSerializer
from risk.models import RiskDecision
from trading import services
from trading.api.refusals import kept_refusals, read_or_refuse
from trading.api.rows import only_account, storable, storable_fields
from trading.models import Account
from trading.services.assessment import DIRECTIONS, STATED, AssessmentRequest


class AssessView(APIView):
    """The assessment of a request that nobody executes."""

    write_role = "trader"

    class AssessSerializer(StrictSerializer):
        """What is asked; `portfolio_state` stands in for the account's own portfolio.

        Where there is one account, it need not be named. A stated portfolio without an account
        is judged by the limits of the first.
        """

        signal_id = serializers.CharField(default="", allow_blank=True)
        strategy = serializers.CharField(default="", allow_blank=True, max_length=64)
        asset = serializers.SlugRelatedField("coin_id", queryset=Instrument.objects.all())
        signal_type = serializers.ChoiceField(choices=sorted(DIRECTIONS))
        price = serializers.FloatField()
        confidence = serializers.FloatField()
        stop_loss = serializers.FloatField(default=None, allow_null=True)
        take_profit = serializers.FloatField(default=None, allow_null=True)
        position_size = serializers.FloatField(default=None, allow_null=True)
        account = serializers.PrimaryKeyRelatedField(
            queryset=Account.objects.select_related("profile"), default=None, allow_null=True
        )
        portfolio_state = serializers.DictField(
            child=serializers.FloatField(), default=None, allow_null=True
        )

        def validate_portfolio_state(self, value: dict[str, float] | None) -> Any:
            """Equity is the least that must be said, and nothing that nobody reads."""
            if value is not None and "equity" not in value:
                raise serializers.ValidationError("equity is missing")
            unknown = sorted((value or {}).keys() - set(STATED))
            if unknown:
                raise serializers.ValidationError(
                    f"unknown: {', '.join(unknown)}; known: {', '.join(STATED)}"
                )
            return value

    @extend_schema(
        request=AssessSerializer, responses=OpenApiTypes.OBJECT, parameters=[KEY_PARAMETER]
    )
    def post(self, request: Request) -> Response:
        """Assess; a refusal is an answer too."""
        asked = read_or_refuse(request, self.AssessSerializer, record=_record_invalid)
        with kept_refusals(request):
            values = dict(asked.validated_data)
            state = values.pop("portfolio_state")
            account = values.pop("account") or _account_of(state)
        wanted = AssessmentRequest(**{**values, "asset": values["asset"].coin_id})
        return answer_once(request, partial(self._assess, account, wanted, state))

    def _assess(
        self, account: Account, wanted: AssessmentRequest, state: dict[str, float] | None
    ) -> Response:
        return Response(
            services.preview_assessment(account=account, asked=wanted, portfolio_state=state)
        )


def _record_invalid(data: Any, errors: Any) -> RiskDecision | None:
    """A row for what could not even be assessed, where it names an instrument: of the account that
    it names, else of the first."""
    said = data if isinstance(data, dict) else {}
    account_ids = Account.objects.order_by("pk").values_list("pk", flat=True)
    named = storable(said.get("account", ""))
    # More digits are no id of ours, and more than some databases compare.
    wanted = account_ids.filter(pk=int(named)) if re.fullmatch("[0-9]{1,9}", named) else account_ids
    account_id = wanted.first()
    if account_id is None:
        return None
    return services.record_invalid_order(
        account_id=account_id,
        coin_id=storable(said.get("asset", "")),
        side=DIRECTIONS.get(storable(said.get("signal_type")), 0),
        fields=storable_fields(errors),
        request="assessment",
    )


def _account_of(state: dict[str, float] | None) -> Account:
    """Whose limits hold for a request that names no account: the first account's for a portfolio
    that was stated; else the only account's. Raises Http404, ValidationError."""
    if state is None:
        return only_account()
    return get_object_or_404(Account.objects.select_related("profile").order_by("pk")[:1])


urlpatterns = [path("risk/assess/", AssessView.as_view())]
