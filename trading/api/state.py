"""The trading state over HTTP: what holds for the desk and each account, since when and why."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.once import KEY_PARAMETER, answer_again, answer_once
from collectors.strict import StrictSerializer
from risk.models import Desk, RiskProfile, TradingState
from risk.selectors import read_desk, state_in_force
from trading import services
from trading.api.refusals import kept_refusals
from trading.api.rows import only_account
from trading.models import Account

DESK = "desk"


class StillAtWork(APIException):
    """The switch is set, but its promise cannot be given yet."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "still_at_work"


class SwitchSerializer(serializers.Serializer[Any]):
    """One switch. `effective` is what rules: the strictest of its own state, the desk's and
    staleness; `state` its own, with who set it and why."""

    scope = serializers.ChoiceField(choices=[DESK, "account"])
    account = serializers.CharField(allow_null=True)
    profile = serializers.CharField(allow_null=True)
    state = serializers.ChoiceField(choices=TradingState.choices)
    effective = serializers.ChoiceField(choices=TradingState.choices)
    reason = serializers.CharField()
    by = serializers.CharField()
    changed_at = serializers.DateTimeField(allow_null=True)


class StatesSerializer(serializers.Serializer[Any]):
    """Every account's switch, the desk's, and whether entries wait for fresh prices."""

    results = SwitchSerializer(many=True)
    desk = SwitchSerializer()
    is_stale = serializers.BooleanField()
    staleness = serializers.CharField()


class TradingStateView(APIView):
    """The switches: active, reducing or halted, with who and why."""

    write_role = "trader"

    class StateChangeSerializer(StrictSerializer):
        """The wanted state of an account, named by itself or by its profile, or of the desk.
        Where there is one account, it need not be named."""

        scope = serializers.ChoiceField(choices=[DESK, "account"], default="account")
        account = serializers.CharField(default="", allow_blank=True)
        profile = serializers.CharField(default="", allow_blank=True)
        state = serializers.ChoiceField(choices=TradingState.choices)
        reason = serializers.CharField(max_length=200)

        def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
            """The desk is not an account."""
            if attrs["scope"] == DESK and (attrs["account"] or attrs["profile"]):
                raise serializers.ValidationError({"scope": "the desk is all accounts"})
            return attrs

    @extend_schema(responses=StatesSerializer)
    def get(self, request: Request) -> Response:
        """The switch of the desk and of every account."""
        desk = read_desk()
        rows = [_switch_of(account, desk) for account in _accounts()]
        return Response(
            StatesSerializer(
                {
                    "results": rows,
                    "desk": _switch_of(None, desk),
                    "is_stale": desk.is_stale,
                    "staleness": desk.staleness,
                }
            ).data
        )

    @extend_schema(
        request=StateChangeSerializer, responses=SwitchSerializer, parameters=[KEY_PARAMETER]
    )
    def post(self, request: Request) -> Response:
        """Throw a switch; after the answer no opening order commits.

        An account that its figures halted begins again with what it is worth now as its high-water
        mark and day's start. 503 says that the desk's switch is set, but that a worker is still at
        an order that it began before.
        """
        with kept_refusals(request):
            asked = self.StateChangeSerializer(data=request.data)
            asked.is_valid(raise_exception=True)
        wish = {
            "state": asked.validated_data["state"],
            "reason": asked.validated_data["reason"],
            "by": request.user.get_username(),
        }
        if asked.validated_data["scope"] == DESK:
            return answer_again(request, partial(self._throw_desk, wish))
        account = _asked_account(asked.validated_data)
        return answer_once(request, partial(self._throw, account.pk, wish))

    def _throw_desk(self, wish: dict[str, str]) -> Response:
        try:
            services.set_desk_state(**wish)
        except services.StillAtWorkError as error:
            raise StillAtWork(str(error)) from None
        return Response(SwitchSerializer(_switch_of(None, read_desk())).data)

    def _throw(self, account_id: int, wish: dict[str, str]) -> Response:
        services.set_trading_state(account_id=account_id, **wish)
        changed = _accounts().get(pk=account_id)
        return Response(SwitchSerializer(_switch_of(changed, read_desk())).data)


def _accounts() -> Any:
    return Account.objects.select_related("profile").order_by("pk")


def _asked_account(asked: dict[str, Any]) -> Account:
    accounts = _accounts()
    if asked["account"]:
        accounts = accounts.filter(name=asked["account"])
    if asked["profile"]:
        accounts = accounts.filter(profile__name=asked["profile"])
    return only_account(accounts)


def _switch_of(account: Account | None, desk: Desk) -> dict[str, Any]:
    owner: RiskProfile | Desk = account.profile if account else desk
    profile = account.profile if account else RiskProfile()
    return {
        "scope": "account" if account else DESK,
        "account": account.name if account else None,
        "profile": account.profile.name if account else None,
        "state": owner.trading_state,
        "effective": state_in_force(profile=profile, desk=desk).state,
        "reason": owner.state_reason,
        "by": owner.state_changed_by,
        "changed_at": owner.state_changed_at,
    }


urlpatterns = [path("risk/state/", TradingStateView.as_view())]
