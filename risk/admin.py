"""Risk in the admin: profiles to change, decisions to read."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from collectors.admin.records import RecordAdmin
from risk.declarations import BY_NAME
from risk.models import RiskDecision, RiskLimit, RiskLimitChange, RiskProfile, TradingStateChange
from risk.services import change_limit, refuse_limit
from signals.models import Direction


@admin.register(RiskProfile)
class RiskProfileAdmin(RecordAdmin):
    """The trading state has its own door, which records who and why; limits are rows beside it.

    A profile is made with its account and has its name, by which requests name it.
    """

    list_display = ["name", "trading_state", "state_reason", "state_changed_by", "state_changed_at"]
    list_filter = ["trading_state"]
    search_fields = ["name"]


class LimitForm(forms.ModelForm):  # type: ignore[type-arg]
    """The value within its declared bounds, and why it is changed."""

    reason = forms.CharField(
        max_length=200, help_text="kept with the change", widget=UnfoldAdminTextInputWidget
    )
    by = ""  # who asks

    class Meta:
        model = RiskLimit
        fields: ClassVar = ["value"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        declared = BY_NAME.get(self.instance.name)
        if declared is not None and "value" in self.fields:
            self.fields["value"].help_text = (
                f"from {declared.low:.10g} to {declared.high:.10g} ({declared.unit}),"
                f" {declared.default:.10g} at first: {declared.text}"
            )

    def clean(self) -> dict[str, Any]:
        """A change that may be made; one that may not is kept as a refusal."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if {"value", "reason"} <= values.keys():
            try:
                refuse_limit(
                    profile_id=self.instance.profile_id,
                    name=self.instance.name,
                    strategy=self.instance.strategy,
                    value=values["value"],
                    reason=values["reason"],
                    by=self.by,
                )
            except ValidationError as refused:
                self.add_error("value", refused.messages)
        return values


@admin.register(RiskLimit)
class RiskLimitAdmin(ModelAdmin):  # type: ignore[misc]
    """Every limit of every profile; a change is recorded with who and why."""

    form = LimitForm
    list_display = [
        "profile", "name", "strategy", "value", "unit", "meaning", "changed_by", "changed_at",
    ]  # fmt: skip
    list_filter = ["profile", "name"]
    search_fields = ["name", "strategy"]
    list_select_related = ["profile"]
    readonly_fields = ["profile", "name", "strategy", "changed_by", "changed_at"]
    fields = ["profile", "name", "strategy", "value", "reason", "changed_by", "changed_at"]

    @admin.display
    def unit(self, limit: RiskLimit) -> str:
        """What the value is a number of."""
        return BY_NAME[limit.name].unit if limit.name in BY_NAME else ""

    @admin.display
    def meaning(self, limit: RiskLimit) -> str:
        """What the limit is for."""
        return BY_NAME[limit.name].text if limit.name in BY_NAME else "no limit of this version"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A profile is made with all its limits."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: RiskLimit | None = None) -> bool:
        """None goes: without a row its default would hold, unrecorded."""
        return False

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """A form of this request's own, which knows who asks."""
        form = super().get_form(request, *args, **kwargs)
        form.by = request.user.get_username()
        return form

    def save_model(self, request: HttpRequest, obj: RiskLimit, form: Any, change: bool) -> None:
        """By the one door that records the change."""
        change_limit(
            profile_id=obj.profile_id,
            name=obj.name,
            strategy=obj.strategy,
            value=form.cleaned_data["value"],
            reason=form.cleaned_data["reason"],
            by=request.user.get_username(),
        )


@admin.register(RiskLimitChange)
class RiskLimitChangeAdmin(RecordAdmin):
    """Who changed which limit, from what to what, and why. Read only."""

    list_display = [
        "at", "profile", "name", "strategy", "old_value", "new_value", "refusal", "changed_by",
        "reason",
    ]  # fmt: skip
    list_filter = ["profile", "name"]
    search_fields = ["name", "changed_by", "reason"]
    list_select_related = ["profile"]
    date_hierarchy = "at"


@admin.register(RiskDecision)
class RiskDecisionAdmin(RecordAdmin):
    """What was decided, with all that it was computed from. Read only."""

    list_display = [
        "at",
        "profile",
        "instrument",
        "wanted",
        "is_approved",
        "rejection_reason",
        "risk_level",
        "position_size",
    ]
    list_filter = ["is_approved", "rejection_reason", "risk_level", "profile"]
    search_fields = ["instrument__coin_id", "rejection_reason"]
    list_select_related = ["profile", "instrument"]
    date_hierarchy = "at"

    @admin.display(ordering="direction")
    def wanted(self, decision: RiskDecision) -> str:
        """The state that was asked for."""
        return Direction(decision.direction).label


@admin.register(TradingStateChange)
class TradingStateChangeAdmin(RecordAdmin):
    """What changed the trading state of an account, or of all. Read only."""

    list_display = ["at", "profile", "from_state", "to_state", "cause", "by", "reason"]
    list_filter = ["cause", "to_state", "profile"]
    search_fields = ["reason", "by"]
    list_select_related = ["profile"]
    date_hierarchy = "at"
