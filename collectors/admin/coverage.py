"""The map of what is stored: a row for each series, a column for each day, coloured by state."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
from django.conf import settings
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode

from collectors import clock, services
from collectors.models import DERIVED_TIMEFRAMES, CandleHole, Instrument
from collectors.selectors import CoverageMap, SeriesKey, coverage_map, known_series

SPANS = (30, 90, 400)
PAGE = 50
CELL_WIDTH, CELL_HEIGHT, HEADER = 11, 18, 18
DAY = timedelta(days=1)
# A bar that has just closed is about to come.
SETTLING = timedelta(minutes=2)
EPOCH_DAY = date(1970, 1, 1)
# In the order of urgency: a day is coloured by the first that applies to it.
STATES = (
    ("lacking", "lacking: may still come"),
    ("unrepairable", "unrepairable: no source has some"),
    ("no_trade", "no trade in some bars"),
    ("sampled", "built from price samples"),
    ("worse", "some from a worse source"),
    ("whole", "whole"),
    ("outside", "not required"),
)


def show_coverage_map(request: HttpRequest, *, model_admin: ModelAdmin[CandleHole]) -> HttpResponse:
    """The page; `days` is one of SPANS, `page` counts from 1."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    days = _choice(request.GET.get("days"), default=SPANS[1], least=1, most=SPANS[-1])
    page = _choice(request.GET.get("page"), default=1, least=1, most=10_000)
    chosen = list(Instrument.objects.all()[(page - 1) * PAGE : page * PAGE + 1])
    now = clock.now() - clock.current().widen(SETTLING)
    table = coverage_map(
        series=known_series(instruments=chosen[:PAGE]),
        first_day=now.date() - (days - 1) * DAY,
        days=days,
        required_from=services.default_history_start(),
        now=now,
    )
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Coverage by day",
        "content_title": "Coverage by day",
        "spans": [{"days": span, "is_chosen": span == days} for span in SPANS],
        "days": days,
        "page": page,
        "has_more": len(chosen) > PAGE,
        "states": STATES,
        "derived": DERIVED_TIMEFRAMES.items(),
        **draw_map(table),
    }
    return TemplateResponse(request, "collectors/coverage_map.html", context)


def visit_cell(
    request: HttpRequest,
    instrument: int,
    timeframe: str,
    day: int,
    *,
    model_admin: ModelAdmin[CandleHole],
) -> HttpResponse:
    """The holes of one series on one day (days since the epoch), or its candles when there are
    none."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    get_object_or_404(Instrument, pk=instrument)
    try:
        start, end = EPOCH_DAY + day * DAY, EPOCH_DAY + (day + 1) * DAY
    except OverflowError:
        start, end = date.min, date.min
    series = {"instrument__id__exact": instrument, "timeframe__exact": timeframe}
    touching = {"start__lt": f"{end} 00:00:00+00:00", "end__gte": f"{start} 00:00:00+00:00"}
    holes = CandleHole.objects.filter(instrument=instrument, timeframe=timeframe)
    if holes.filter(**touching).exists():
        return _redirect("admin:collectors_candlehole_changelist", series | touching)
    within = {
        "open_time__gte": f"{start} 00:00:00+00:00",
        "open_time__lt": f"{end} 00:00:00+00:00",
    }
    return _redirect("admin:collectors_ohlcv_changelist", series | within)


def draw_map(table: CoverageMap) -> dict[str, Any]:
    """The rows with their cells, and the names of the months, placed for an SVG."""
    states = np.select(
        [
            table.lacking > 0,
            table.unrepairable > 0,
            table.no_trade > 0,
            table.sampled > 0,
            (table.stored > 0) & (table.stored > _from_best(table)),
            table.stored > 0,
        ],
        range(6),
        default=6,
    )
    first = (table.days[0] - EPOCH_DAY).days
    rows = [
        {
            "name": f"{key.instrument.coin_id} {key.timeframe}",
            "top": HEADER + row * CELL_HEIGHT,
            "cells": [
                {
                    "left": column * CELL_WIDTH,
                    "state": STATES[states[row, column]][0],
                    "address": f"{key.instrument.pk}/{key.timeframe}/{first + column}/",
                    "text": _describe(table, row, column),
                }
                for column in range(len(table.days))
            ],
        }
        for row, key in enumerate(table.series)
    ]
    return {
        "rows": rows,
        "months": [
            {"left": column * CELL_WIDTH, "name": f"{day:%b %Y}"}
            for column, day in enumerate(table.days)
            if (day.day == 1 or (column == 0 and day.day < 25)) and column < len(table.days) - 4
        ],
        "cell": {"width": CELL_WIDTH - 1, "height": CELL_HEIGHT - 2, "step": CELL_HEIGHT},
        "header": HEADER,
        "width": len(table.days) * CELL_WIDTH,
        "height": HEADER + len(table.series) * CELL_HEIGHT,
    }


def _from_best(table: CoverageMap) -> Any:
    """(S, D): the stored bars that are from the best allowed source of their instrument."""
    best = np.zeros_like(table.stored)
    for row, key in enumerate(table.series):
        source = _best_source(key)
        if source in table.by_source:
            best[row] = table.by_source[source][row]
    return best


def _best_source(key: SeriesKey) -> str:
    allowed = [name for name in key.instrument.source_chain if name in settings.CANDLE_SOURCES]
    return allowed[0] if allowed else ""


def _describe(table: CoverageMap, row: int, column: int) -> str:
    """What a cell says when pointed at."""
    parts = [f"{table.stored[row, column]} of {table.expected[row, column]} bars"]
    parts += [
        f"{counts[row, column]} {source}"
        for source, counts in sorted(table.by_source.items())
        if counts[row, column]
    ]
    parts += [
        f"{counts[row, column]} {name}"
        for name, counts in (
            ("lacking", table.lacking),
            ("without trade", table.no_trade),
            ("unrepairable", table.unrepairable),
        )
        if counts[row, column]
    ]
    key = table.series[row]
    return f"{key.instrument.coin_id} {key.timeframe} {table.days[column]}: {', '.join(parts)}"


def _choice(text: str | None, *, default: int, least: int, most: int) -> int:
    if text is None or not text.isdecimal() or len(text) > 6:
        return default
    return min(max(int(text), least), most)


def _redirect(name: str, query: dict[str, Any]) -> HttpResponse:
    return HttpResponseRedirect(f"{reverse(name)}?{urlencode(query)}")
