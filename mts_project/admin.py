"""The pages that join several apps: for how long which rows are kept."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from collectors.models import RetentionPolicy
from mts_project.stored_kinds import KINDS_BY_NAME


class RetentionForm(forms.ModelForm):  # type: ignore[type-arg]
    """A policy, with days only for rows that nothing else refers to."""

    def clean_keep_days(self) -> int | None:
        """Refuse what would delete today's rows, or rows that others refer to."""
        days: int | None = self.cleaned_data["keep_days"]
        kind = KINDS_BY_NAME.get(self.instance.kind)
        if days is not None and kind is not None and kind.is_kept:
            raise forms.ValidationError("other rows refer to these: they are kept for ever")
        if days == 0:
            raise forms.ValidationError("at least one day; empty keeps for ever")
        return days


@admin.register(RetentionPolicy)
class RetentionPolicyAdmin(ModelAdmin):  # type: ignore[misc]
    form = RetentionForm
    list_display = ["kind", "kept", "is_archived", "archived_through", "pruned_before"]
    list_filter = ["is_archived"]
    search_fields = ["kind"]
    readonly_fields = ["kind", "archived_through", "pruned_before"]

    @admin.display(description="kept for", ordering="keep_days")
    def kept(self, policy: RetentionPolicy) -> str:
        """For how long rows stay."""
        return "ever" if policy.keep_days is None else f"{policy.keep_days} market days"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
