"""The page of the strategies: enabled, certified, set, and how they do."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from signals import services
from signals.admin.chart import chart_link
from signals.admin.strategy_form import (
    StrategyForm,
    form_for,
    parameter_fields,
    parameters_in_force,
)
from signals.admin.words import outcome_table, told_facts, told_health, told_pending
from signals.catalog import build_strategy, facts_of
from signals.models import StrategyConfig
from signals.parameters import ParameterError
from signals.registry import UnknownStrategy
from signals.standing import CertificateState, certificate_state
from signals.track_record import outcome_summary, strategy_health

REFUSALS = (services.StrategyNotCertified, ParameterError, UnknownStrategy)


@admin.register(StrategyConfig)
class StrategyConfigAdmin(ModelAdmin):  # type: ignore[misc]
    """Strategies are switched by the actions, which check the certificate."""

    form = StrategyForm
    list_display = [
        "name", "is_enabled", "certificate", "weight", "spoken_of", "certified_at", "load_error",
        "chart",
    ]  # fmt: skip
    list_filter = ["is_enabled", "origin"]
    search_fields = ["name"]
    readonly_fields = [
        "name", "is_enabled", "certificate", "waiting", "certified_at", "certificate_facts",
        "chart", "changed", "health", "outcomes", "parameters_told", "origin", "load_error",
        "loaded_at", "file_facts",
    ]  # fmt: skip
    actions = ["enable", "disable", "certify"]

    def get_form(
        self, request: HttpRequest, obj: StrategyConfig | None = None, **kwargs: Any
    ) -> Any:
        """With a field for each parameter of the strategy."""
        if obj is not None:
            kwargs["form"] = form_for(obj)
        return super().get_form(request, obj, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: StrategyConfig | None = None) -> Any:
        """What it is, how it is set, how it does; who may not change it reads its parameters."""
        parameters = ["parameters_told"]
        if obj is not None and self.has_change_permission(request, obj):
            parameters = parameter_fields(obj)
        return [
            (
                None,
                {"fields": ["name", "is_enabled", "certificate", "waiting", "chart", "changed"]},
            ),
            ("Voice", {"fields": ["weight", "assets"]}),
            (
                "Parameters",
                {"fields": parameters, "description": "An empty field takes the preset's value."},
            ),
            ("How it does", {"fields": ["health", "outcomes"]}),
            (
                "Certificate",
                {"fields": ["certified_at", "certificate_facts"]},
            ),
            (
                "File",
                {"fields": ["origin", "load_error", "loaded_at", "file_facts"]},
            ),
        ]

    @admin.display(description="certificate")
    def certificate(self, config: StrategyConfig) -> str:
        """Whether it may run, or is being certified, or what it failed."""
        state = certificate_state(config)
        if state == CertificateState.FAILED:
            return config.certificate_verdict
        if state != CertificateState.IMPOSSIBLE:
            return state.value
        try:
            build_strategy(config.name, config.parameters)
        except (ParameterError, UnknownStrategy) as error:
            return f"{state.value}: {error}"
        return state.value

    @admin.display(description="found")
    def certificate_facts(self, config: StrategyConfig) -> SafeString:
        """What the newest certificate says."""
        return told_facts(config.certificate_detail)

    @admin.display(description="found")
    def file_facts(self, config: StrategyConfig) -> SafeString:
        """What the file declares."""
        return told_facts({"sha256": config.file_hash, **config.declaration})

    @admin.display(description="waiting")
    def waiting(self, config: StrategyConfig) -> str:
        """What waits for its certificate, or failed it."""
        return told_pending(config)

    @admin.display(description="assets")
    def spoken_of(self, config: StrategyConfig) -> str:
        """The coins that it speaks of."""
        return ", ".join(config.assets) or "all"

    @admin.display(description="chart")
    def chart(self, config: StrategyConfig) -> SafeString:
        """The way to the strategy's chart."""
        return chart_link(strategy=config.name)

    @admin.display(description="changes")
    def changed(self, config: StrategyConfig) -> SafeString:
        """The way to the record of who changed what."""
        address = reverse("admin:signals_strategychange_changelist")
        return format_html(
            '<a class="text-primary-600 dark:text-primary-500"'
            ' href="{}?strategy__id__exact={}">{} recorded</a>',
            address,
            config.pk,
            config.changes.count(),
        )

    @admin.display(description="runs")
    def health(self, config: StrategyConfig) -> str:
        """How its newest runs went."""
        try:
            timeframe = facts_of(config.name).timeframe
        except UnknownStrategy as error:
            return str(error)
        found = strategy_health(timeframe=timeframe)
        return told_health(next((each for each in found if each.strategy == config.name), None))

    @admin.display(description="outcomes")
    def outcomes(self, config: StrategyConfig) -> SafeString:
        """How its signals turned out, of each instrument and in all."""
        return outcome_table(
            outcome_summary(strategy=config.name, by_instrument=True),
            outcome_summary(strategy=config.name),
        )

    @admin.display(description="parameters")
    def parameters_told(self, config: StrategyConfig) -> str:
        """The values in force."""
        values = parameters_in_force(config)
        return ", ".join(f"{name} {value}" for name, value in values.items()) or "none"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: StrategyConfig, form: StrategyForm, change: bool
    ) -> None:
        """Only what was changed, by the service: the rest of the row may have changed meanwhile."""
        try:
            config = services.configure_strategy(
                name=obj.name, by=request.user.get_username(), **form.wanted_changes()
            )
        except REFUSALS as error:
            obj.refusal = str(error)  # type: ignore[attr-defined]
            return
        if told := told_pending(config):
            self.message_user(request, told, messages.WARNING)

    def response_change(self, request: HttpRequest, obj: StrategyConfig) -> HttpResponse:
        """What was refused is said in the place of what was done."""
        refusal = getattr(obj, "refusal", "")
        if not refusal:
            answer: HttpResponse = super().response_change(request, obj)
            return answer
        self.message_user(request, refusal, messages.ERROR)
        return HttpResponseRedirect(request.path)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[StrategyConfig]) -> None:
        """Enable each that has a certificate, or as soon as it has one; say why another is
        refused."""
        self._configure(request, queryset, is_enabled=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[StrategyConfig]) -> None:
        """Disable each."""
        self._configure(request, queryset, is_enabled=False)

    @admin.action(description="Certify", permissions=["change"])
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
