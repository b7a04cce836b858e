"""The forms with which a person opens an account and sets what it follows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from risk.declarations import BY_NAME
from risk.models import RiskProfile
from signals.catalog import subscription_names
from trading.models import Account, default_subscriptions
from trading.orders import TAKER_FEE_PPM
from trading.services import create_account

LEAST, MOST = Decimal("0.00000001"), Decimal(1_000_000_000)
LIMITS = ("max_position_size", "max_portfolio_risk")


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """What an account follows, chosen among what there is."""

    subscriptions = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="The strategies that it follows; with none it only keeps what it holds.",
    )

    class Meta:
        model = Account
        fields: ClassVar = ["subscriptions"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "subscriptions" in self.fields:
            # One whose file is gone is still shown, so that it can be taken away.
            names = dict.fromkeys([*subscription_names(), *self.instance.subscriptions])
            self.fields["subscriptions"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]


def _limit(name: str) -> forms.FloatField:
    declared = BY_NAME[name]
    return forms.FloatField(
        min_value=declared.low,
        max_value=declared.high,
        initial=declared.default,
        help_text=f"{declared.text} ({declared.unit}); the other limits are set afterwards",
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )


class OpenAccountForm(AccountForm):
    """A new account: its capital, where it trades, what it follows, and its risk profile."""

    name = forms.CharField(max_length=64, widget=UnfoldAdminTextInputWidget)
    exchange = forms.ChoiceField(
        choices=[(name, name) for name in TAKER_FEE_PPM], widget=UnfoldAdminSelectWidget
    )
    initial_capital = forms.DecimalField(
        min_value=LEAST,
        max_value=MOST,
        decimal_places=8,
        help_text="in quote units, deposited at once; it never changes",
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )
    max_position_size = _limit("max_position_size")
    max_portfolio_risk = _limit("max_portfolio_risk")

    class Meta(AccountForm.Meta):
        fields: ClassVar = ["name", "initial_capital", "exchange", "subscriptions"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("initial_capital", settings.ENV.initial_capital)
        self.initial.setdefault("subscriptions", default_subscriptions())

    def clean_name(self) -> str:
        """A name that the account and its risk profile can have."""
        name: str = self.cleaned_data["name"]
        if RiskProfile.objects.filter(name=name).exists():
            raise forms.ValidationError("an account or a risk profile has this name")
        return name

    def open(self) -> Account:
        """Open it. The form is valid; raises ValidationError."""
        values = self.cleaned_data
        return create_account(
            name=values["name"],
            initial_capital=values["initial_capital"],
            exchange=values["exchange"],
            subscriptions=values["subscriptions"],
            **{name: values[name] for name in LIMITS},
        )
