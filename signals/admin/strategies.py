"""The page of the strategies: enabled, certified, weighted."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from signals import services
from signals.admin.chart import chart_link
from signals.models import StrategyConfig
from signals.parameters import ParameterError
from signals.registry import UnknownStrategy, strategy_type
from signals.standing import certificate_state

REFUSALS = (services.StrategyNotCertified, ParameterError, UnknownStrategy)


class StrategyConfigForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a person may type in; it is refused for the same reasons as by the service."""

    def clean_weight(self) -> float:
        weight: float = self.cleaned_data["weight"]
        try:
            services.check_weight(weight)
        except ParameterError as error:
            raise forms.ValidationError(error.fields["weight"]) from None
        return weight

    def clean(self) -> dict[str, Any] | None:
        try:
            strategy_type(self.instance.name)
        except UnknownStrategy as error:
            raise forms.ValidationError(str(error)) from None
        return super().clean()


@admin.register(StrategyConfig)
class StrategyConfigAdmin(ModelAdmin):  # type: ignore[misc]
    """Strategies are switched by the actions, which check the certificate."""

    form = StrategyConfigForm
    list_display = [
        "name", "is_enabled", "weight", "certificate", "certified_at", "certificate_verdict",
        "chart",
    ]  # fmt: skip
    list_filter = ["is_enabled"]
    search_fields = ["name"]
    readonly_fields = [
        "name", "is_enabled", "is_wanted", "parameters", "pending", "certificate_hash",
        "certified_at", "certificate_detail", "certifying_by", "certifying_until",
    ]  # fmt: skip
    actions = ["enable", "disable", "certify"]

    @admin.display(description="certificate")
    def certificate(self, config: StrategyConfig) -> str:
        """Whether it may run, or is being certified."""
        return certificate_state(config).value

    @admin.display(description="chart")
    def chart(self, config: StrategyConfig) -> SafeString:
        """The way to the strategy's chart."""
        return chart_link(strategy=config.name)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(
        self,
        request: HttpRequest,
        obj: StrategyConfig,
        form: forms.ModelForm[StrategyConfig],
        change: bool,
    ) -> None:
        """Only the weight, by the service: the rest of the row may have changed meanwhile."""
        services.configure_strategy(
            name=obj.name, weight=obj.weight, by=request.user.get_username()
        )

    @admin.action(description="Enable")
    def enable(self, request: HttpRequest, queryset: QuerySet[StrategyConfig]) -> None:
        """Enable each that has a certificate, or as soon as it has one; say why another is
        refused."""
        self._configure(request, queryset, is_enabled=True)

    @admin.action(description="Disable")
    def disable(self, request: HttpRequest, queryset: QuerySet[StrategyConfig]) -> None:
        """Disable each."""
        self._configure(request, queryset, is_enabled=False)

    @admin.action(description="Certify")
    def certify(self, request: HttpRequest, queryset: QuerySet[StrategyConfig]) -> None:
        """Have each certified in the background, with its stored parameters."""
        for config in queryset:
            try:
                services.ask_for_certificate(name=config.name, by=request.user.get_username())
            except REFUSALS as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            self.message_user(request, f"{config.name} is being certified", messages.SUCCESS)

    def _configure(
        self, request: HttpRequest, queryset: QuerySet[StrategyConfig], *, is_enabled: bool
    ) -> None:
        for config in queryset:
            try:
                services.configure_strategy(
                    name=config.name, is_enabled=is_enabled, by=request.user.get_username()
                )
            except REFUSALS as error:
                self.message_user(request, str(error), messages.ERROR)
