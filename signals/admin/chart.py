"""The page that shows what a strategy decides by: its diagnostics over the candles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe

from signals.catalog import strategy_names
from signals.inspection import Inspection, InspectionError, inspect_strategy, offered_coins
from signals.models import Signal, StrategyConfig
from signals.registry import CONSENSUS

BEFORE, AFTER = timedelta(days=7), timedelta(days=3)  # what is shown around one signal
FORMAT = "%Y-%m-%dT%H:%M"
# Inside a script element these begin no markup.
ESCAPED = {ord("<"): "\\u003C", ord(">"): "\\u003E", ord("&"): "\\u0026"}


class MomentField(forms.DateTimeField):
    """A moment in UTC, to the minute."""

    def __init__(self, *, label: str) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format=FORMAT)
        super().__init__(label=label, required=False, widget=widget)


class ChartForm(forms.Form):
    """What is to be shown; what is not given is the consensus, the first instrument, 30 days."""

    strategy = forms.CharField(required=False, max_length=64)
    instrument = forms.CharField(required=False, max_length=64)
    start = MomentField(label="From")
    end = MomentField(label="To")


def show_chart(request: HttpRequest, *, model_admin: ModelAdmin[Signal]) -> HttpResponse:
    """The page: `strategy` (or consensus), `instrument` (a coin id), `start`, `end` in UTC."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    strategies = [CONSENSUS, *strategy_names()]
    coin_ids = offered_coins()
    form = ChartForm(request.GET)
    problems = [
        f"{form.fields[name].label or name}: {' '.join(map(str, texts))}"
        for name, texts in (form.errors or {}).items()
    ]
    asked = {name: form.cleaned_data.get(name) for name in form.fields}
    strategy = asked["strategy"] or _most_telling(strategies)
    coin_id = asked["instrument"] or _first_of(coin_ids)
    shown: Inspection | None = None
    if not coin_id:
        problems.append("No instrument is offered to strategies: enable one that an exchange lists")
    elif not problems:
        try:
            shown = inspect_strategy(
                strategy_name=strategy, coin_id=coin_id, start=asked["start"], end=asked["end"]
            )
        except InspectionError as error:
            problems.append(str(error))
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Strategy chart",
        "content_title": "Strategy chart",
        "strategies": strategies,
        "coin_ids": coin_ids,
        "strategy": strategy,
        "coin_id": coin_id,
        "problems": problems,
        "start": request.GET.get("start", ""),
        "end": request.GET.get("end", ""),
        **(_drawn(shown) if shown else {}),
    }
    return TemplateResponse(request, "signals/strategy_chart.html", context)


def chart_link(
    *, strategy: str, coin_id: str = "", around: datetime | None = None, text: str = "chart"
) -> SafeString:
    """A link to the page, with the days about a moment when one is given."""
    query = {"strategy": strategy}
    if coin_id:
        query["instrument"] = coin_id
    if around is not None:
        query["start"] = (around - BEFORE).strftime(FORMAT)
        query["end"] = (around + AFTER).strftime(FORMAT)
    address = f"{reverse('admin:signals_strategy_chart')}?{urlencode(query)}"
    return format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', address, text
    )


def _most_telling(strategies: list[str]) -> str:
    """The consensus when somebody takes part in it, else the first strategy."""
    is_spoken = StrategyConfig.objects.filter(is_enabled=True).exists()
    return CONSENSUS if is_spoken else strategies[1]


def _first_of(coin_ids: list[str]) -> str:
    return "bitcoin" if "bitcoin" in coin_ids else next(iter(coin_ids), "")


def _drawn(shown: Inspection) -> dict[str, Any]:
    """The figure as JSON in a script element, and what it shows in words and rows."""
    from signals.charts import draw_inspection  # plotly takes half a second, once, here only

    moments = [
        datetime.fromtimestamp(int(shown.open_time[row]) / 1000, tz=UTC).strftime(FORMAT)
        for row in (0, -1)
    ]
    figure = draw_inspection(shown).to_json().translate(ESCAPED)
    return {
        "shown": shown,
        "figure": mark_safe(figure),
        "start": moments[0],
        "end": moments[1],
        "bars": len(shown.open_time),
        "holes": int((~shown.valid).sum()),
        "long_bars": int((shown.direction > 0).sum()),
        "short_bars": int((shown.direction < 0).sum()),
        "signals": list(reversed(shown.signals)),
    }
