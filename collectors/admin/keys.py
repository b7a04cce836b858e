"""API keys in the admin: made, shown once, revoked."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from collectors.keys import check_new_key, create_api_key, may_have, revoke_api_key
from collectors.models import ApiKey


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A key no stronger than its owner, nor than `maker`, who reads it."""

    maker: ClassVar[Any] = None

    def clean(self) -> dict[str, Any]:
        """Refused for the same reasons as by the service."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        user, scope = values.get("user"), values.get("scope")
        if user is None or not scope:
            return values
        try:
            check_new_key(user=user, scope=scope, expires_at=values.get("expires_at"))
        except ValidationError as error:
            self.add_error(None, error)
        if not may_have(self.maker, scope):
            self.add_error("scope", f"{self.maker} may not do what {scope} may")
        return values


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):  # type: ignore[misc]
    """A key is shown when it is made, and never again."""

    form = ApiKeyForm
    fields = ["user", "name", "scope", "expires_at"]
    list_display = [
        "name", "user", "scope", "prefix", "created_at", "last_used_at", "expires_at", "revoked_at",
    ]  # fmt: skip
    list_filter = ["scope"]
    search_fields = ["name", "user__username", "prefix"]
    list_select_related = ["user"]
    actions = ["revoke"]

    def get_form(
        self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """One that knows who asks."""
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"maker": request.user})

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Make it, and say it."""
        made, text = create_api_key(
            user=obj.user, name=obj.name, scope=obj.scope, expires_at=obj.expires_at
        )
        for field in ApiKey._meta.concrete_fields:
            setattr(obj, field.attname, getattr(made, field.attname))
        messages.warning(request, f"The key, which is shown this once: {text}")

    @admin.action(description="Revoke", permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """End the chosen keys at once."""
        ended = sum(revoke_api_key(key_id=pk) for pk in queryset.values_list("pk", flat=True))
        messages.success(request, f"{ended} revoked")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What a key may do never changes."""
        return False
