"""The pages of the backfills: asked for with a form, followed, cancelled, started again."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget

from collectors import services, tasks
from collectors.marketdata import TIMEFRAMES
from collectors.models import DERIVED_TIMEFRAMES, NATIVE_TIMEFRAMES, Backfill, Instrument

STANDING = [
    "state", "progress", "position", "stored", "requests", "error", "requested_by", "created_at",
    "finished_at",
]  # fmt: skip


class BackfillForm(forms.ModelForm):  # type: ignore[type-arg]
    """A span of one series; what cannot be had is refused with the reason."""

    timeframe = forms.ChoiceField(
        choices=[(name, name) for name in TIMEFRAMES if name not in DERIVED_TIMEFRAMES],
        initial="1h",
        widget=UnfoldAdminSelectWidget,
    )

    class Meta:
        model = Backfill
        fields = ["instrument", "timeframe", "start", "end"]

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError for a span that no source can serve."""
        wanted = super().clean() or self.cleaned_data
        if self.errors:
            return wanted
        try:
            services.servable_span(**wanted)
        except services.BackfillRefused as error:
            raise ValidationError({error.field: str(error)}) from None
        return wanted


@admin.register(Backfill)
class BackfillAdmin(ModelAdmin):  # type: ignore[misc]
    form = BackfillForm
    list_display = [
        "id", "instrument", "timeframe", "start", "end", "state", "progress", "stored", "requests",
        "error", "created_at", "finished_at",
    ]  # fmt: skip
    list_filter = ["state", "timeframe", "instrument"]
    search_fields = ["instrument__coin_id", "error"]
    list_select_related = ["instrument"]
    actions = ["cancel", "start_again"]

    def get_fields(self, request: HttpRequest, obj: Backfill | None = None) -> list[str]:
        """What is asked for, and of a backfill that is there also how it stands."""
        asked = list(BackfillForm.Meta.fields)
        return asked if obj is None else asked + STANDING

    def get_readonly_fields(self, request: HttpRequest, obj: Backfill | None = None) -> list[str]:
        """How a backfill stands is nobody's to say."""
        return [] if obj is None else STANDING

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="progress", ordering="position")
    def progress(self, backfill: Backfill) -> str:
        """How much of the span has been asked for."""
        return f"{backfill.progress_pct:.1f}%"

    def save_model(self, request: HttpRequest, obj: Backfill, form: Any, change: bool) -> None:
        """Queue it; the row is the service's."""
        queued = services.request_backfill(**form.cleaned_data, requested_by=_author(request))
        obj.__dict__.update(queued.__dict__)
        _hint()

    @admin.action(description="Cancel", permissions=["add"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Backfill]) -> None:
        """Cancel those of the chosen that are not finished."""
        cancelled = sum(services.cancel_backfill(backfill_id=item.pk) for item in queryset)
        messages.info(request, f"{cancelled} cancelled")

    @admin.action(description="Start again where it stood", permissions=["add"])
    def start_again(self, request: HttpRequest, queryset: QuerySet[Backfill]) -> None:
        """Queue those of the chosen that failed or were cancelled."""
        queued = sum(services.restart_backfill(backfill_id=item.pk) for item in queryset)
        _hint()
        messages.info(request, f"{queued} queued again")


def queue_default_history(request: HttpRequest, instruments: QuerySet[Instrument]) -> None:
    """Queue a backfill of the default history for each collected timeframe of the instruments."""
    queued = 0
    for instrument in instruments:
        for timeframe in instrument.timeframes:
            if timeframe not in NATIVE_TIMEFRAMES:
                continue
            try:
                services.request_backfill(
                    instrument=instrument, timeframe=timeframe, requested_by=_author(request)
                )
                queued += 1
            except services.BackfillRefused as error:
                messages.warning(request, f"{instrument} {timeframe}: {error}")
    _hint()
    messages.info(request, f"{queued} queued")


def _author(request: HttpRequest) -> User | None:
    return request.user if isinstance(request.user, User) else None


def _hint() -> None:
    """Tell the workers; if the message is lost, the sweep finds the rows."""
    transaction.on_commit(partial(tasks.sweep_backfills.delay), robust=True)
