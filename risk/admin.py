"""Risk in the admin: profiles to change, decisions to read."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from collectors.admin.records import RecordAdmin
from risk.models import RiskDecision, RiskProfile


@admin.register(RiskProfile)
class RiskProfileAdmin(ModelAdmin):  # type: ignore[misc]
    """Limits are changed here; the trading state has its own door, which records who and why."""

    list_display = ["name", "trading_state", "max_drawdown", "max_daily_loss", "max_position_size"]
    list_filter = ["trading_state"]
    search_fields = ["name"]
    readonly_fields = ["trading_state", "state_reason", "state_changed_by", "state_changed_at"]

    def save_model(self, request: HttpRequest, obj: RiskProfile, form: Any, change: bool) -> None:
        """Only what was changed: a whole save would write back a switch thrown meanwhile."""
        obj.save(update_fields=form.changed_data if change else None)


@admin.register(RiskDecision)
class RiskDecisionAdmin(RecordAdmin):
    """What was decided, with all that it was computed from. Read only."""

    list_display = [
        "at",
        "profile",
        "instrument",
        "direction",
        "is_approved",
        "rejection_reason",
        "risk_level",
        "position_size",
    ]
    list_filter = ["is_approved", "rejection_reason", "risk_level", "profile"]
    search_fields = ["instrument__coin_id", "rejection_reason"]
    list_select_related = ["profile", "instrument"]
    date_hierarchy = "at"
