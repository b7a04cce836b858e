"""The page in the admin on which the trading states stand, and traders change them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from collectors.access import may_trade
from risk.models import Desk, RiskProfile, TradingState, TradingStateChange
from risk.selectors import read_desk, state_in_force
from trading.models import Account
from trading.services import StillAtWorkError, set_desk_state, set_trading_state

NEWEST = 20


class SwitchForm(forms.Form):
    """Whose switch, how it should stand, and why. Without an account it is the desk's."""

    account = forms.CharField(required=False, max_length=64)
    state = forms.ChoiceField(choices=TradingState.choices)
    reason = forms.CharField(max_length=200)


def show_switch(request: HttpRequest, *, model_admin: ModelAdmin[Account]) -> HttpResponse:
    """The page; a POST throws a switch and comes back. Raises Http404 for an unknown account."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    may_throw = may_trade(request.user)
    if request.method == "POST":
        if not may_throw:
            raise PermissionDenied
        _throw(request)
        return HttpResponseRedirect(reverse("admin:trading_switch"))
    desk = read_desk()
    accounts = Account.objects.select_related("profile").order_by("pk")
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Trading state",
        "content_title": "Trading state",
        "desk": desk,
        "rows": [_row("", desk, desk), *(_row(one.name, one.profile, desk) for one in accounts)],
        "states": TradingState.choices,
        "may_throw": may_throw,
        "changes": TradingStateChange.objects.select_related("profile")[:NEWEST],
    }
    return TemplateResponse(request, "trading/switch.html", context)


def _throw(request: HttpRequest) -> None:
    form = SwitchForm(request.POST)
    if not form.is_valid():
        for name, faults in form.errors.items():
            messages.error(request, f"{name}: {' '.join(str(fault) for fault in faults)}")
        return
    name = form.cleaned_data["account"]
    wish = {
        "state": form.cleaned_data["state"],
        "reason": form.cleaned_data["reason"],
        "by": request.user.get_username(),
    }
    try:
        if not name:
            set_desk_state(**wish)
        elif account := Account.objects.filter(name=name).first():
            set_trading_state(account_id=account.pk, **wish)
        else:
            raise Http404(f"there is no account {name}")
    except ValidationError as error:
        messages.error(request, "; ".join(error.messages))
    except StillAtWorkError as error:
        messages.warning(request, str(error))
    else:
        messages.success(request, f"{name or 'All accounts'}: {wish['state']}")


def _row(name: str, owner: RiskProfile | Desk, desk: Desk) -> dict[str, Any]:
    profile = owner if isinstance(owner, RiskProfile) else RiskProfile()
    return {
        "account": name,
        "owner": owner,
        "effective": state_in_force(profile=profile, desk=desk).state,
    }
