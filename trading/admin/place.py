"""The form in the admin with which a person orders; risk and the venue have the same word here as
over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanSwitchWidget,
)

from collectors.models import Instrument
from trading import services
from trading.models import Account, OrderKind, Side
from trading.services import HandOrder, Terms

SIDES = {Side.BUY.value: 1, Side.SELL.value: -1}
PRICES = ("limit_price", "trigger_price", "trail")


def _number(help_text: str = "") -> forms.DecimalField:
    return forms.DecimalField(
        required=False,
        max_digits=40,
        decimal_places=20,
        help_text=help_text,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )


class HandOrderForm(forms.Form):
    """One order; prices in quote units. Sent twice, it is placed once."""

    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)
    instrument = forms.ModelChoiceField(
        queryset=Instrument.objects.order_by("coin_id"),
        to_field_name="coin_id",
        widget=UnfoldAdminSelectWidget,
    )
    side = forms.ChoiceField(choices=Side.choices, widget=UnfoldAdminSelectWidget)
    kind = forms.ChoiceField(choices=OrderKind.choices, widget=UnfoldAdminSelectWidget)
    quantity = _number("in base units")
    notional = _number("or so many quote units")
    limit_price = _number("of a limit or stop-limit order")
    trigger_price = _number("of a stop or stop-limit order")
    trail = _number("how far a trailing stop stays behind the market")
    stop_loss = _number("of the position that it opens; empty: as the profile has it")
    take_profit = _number("of the position that it opens; empty: as the profile has it")
    reduce_only = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="it only shrinks what is held; without a size, all of it",
    )

    def asked(self, *, by: str) -> HandOrder:
        """What the person wants. The form is valid."""
        values = self.cleaned_data
        return HandOrder(
            coin_id=values["instrument"].coin_id,
            side=SIDES[values["side"]],
            terms=(Terms(kind=values["kind"], **{name: values[name] for name in PRICES}),),
            quantity=values["quantity"],
            notional=values["notional"],
            stop_loss=values["stop_loss"],
            take_profit=values["take_profit"],
            reduce_only=values["reduce_only"],
            placed_by=by,
            key=values["key"].hex,
        )


def place_by_form(
    request: HttpRequest, account: Account
) -> tuple[HttpResponse | None, HandOrderForm]:
    """Place what the form asks for, and where to go then; else the form with what is wrong."""
    form = HandOrderForm(request.POST if request.method == "POST" else None)
    if request.method != "POST" or not form.is_valid():
        return None, form
    asked = form.asked(by=request.user.get_username())
    offer = services.read_offer(account_id=account.pk, coin_id=asked.coin_id)
    outcome = services.place_hand_order(account_id=account.pk, asked=asked, offer=offer)
    if outcome.refusal is not None:
        _say_refusal(form, outcome.refusal)
        return None, form
    (order,) = outcome.orders
    messages.success(request, f"{order}: {order.kind}, {order.status}")
    address = reverse("admin:trading_account_change", args=[account.pk])
    return HttpResponseRedirect(address), form


def _say_refusal(form: HandOrderForm, refusal: Any) -> None:
    for name, lines in refusal.fields.items():
        for line in lines:
            form.add_error(name if name in form.fields else None, line)
    if not refusal.fields:
        form.add_error(None, refusal.message)
