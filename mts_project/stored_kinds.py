"""The kinds of rows that are archived and that may be forgotten: one entry each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import QuerySet

from collectors.formats.schema import Column, Kind, Row
from collectors.marketdata import TIMEFRAMES
from collectors.models import (
    BookDowntime,
    BookHour,
    BookSample,
    CandleReplacement,
    FundingRate,
    MacroObservation,
    Ohlcv,
    PriceSample,
    ProviderCallMinute,
    QualityFinding,
)
from signals.models import OutsideAlert, Signal
from trading.models import RefusedRequest

# What a database column becomes in a file, by the first that fits; anything else is text.
COLUMN_KINDS: tuple[tuple[type[models.Field[Any, Any]], Kind], ...] = (
    (models.FloatField, "double"),
    (models.IntegerField, "integer"),
    (models.BooleanField, "flag"),
    (models.DateTimeField, "moment"),
    (models.DateField, "day"),
)
CHUNK = 10_000


@dataclass(frozen=True, kw_only=True)
class StoredKind:
    """Rows of one model.

    `time` is the column whose market day a row belongs to; `changed` (wall time, say) grows when
    a row is written again. `leading` are the columns before `time` in the index that serves it.
    `prune` names who deletes them where deleting the rows is not enough; `is_kept` are those
    that others refer to, kept for ever; `referring` are relations whose rows hold on to single
    rows of this kind.
    """

    name: str
    model: type[models.Model]
    time: str
    columns: str
    changed: str
    leading: tuple[str, ...] = ()
    keep_days: int | None = None
    prune: str = ""
    is_kept: bool = False
    referring: tuple[str, ...] = ()

    def between(self, start: datetime | None, end: datetime) -> QuerySet[Any]:
        """The rows of [start, end), everything before `end` without a start."""
        rows = self.model._default_manager.filter(**{f"{self.time}__lt": end}).order_by()
        if start is None:
            return rows
        leading = {f"{name}__in": self._all_of(name) for name in self.leading}
        return rows.filter(**{f"{self.time}__gte": start}, **leading)

    def file_columns(self) -> list[Column]:
        """The columns of a file of these rows."""
        return [_column(self.model, path) for path in self.columns.split()]

    def file_rows(self, rows: QuerySet[Any]) -> Iterator[Row]:
        """Rows as a file has them, in the order of its columns."""
        paths = self.columns.split()
        encoders = [_encoder(self.model, path) for path in paths]
        for row in (
            rows.order_by(*self.leading, self.time, "pk")
            .values_list(*paths)
            .iterator(chunk_size=CHUNK)
        ):
            yield tuple(
                encode(cell) if encode and cell is not None else cell
                for encode, cell in zip(encoders, row, strict=True)
            )

    def _all_of(self, name: str) -> list[Any]:
        """Every value of a leading column: with all of them named, its index serves a time."""
        if name == "timeframe":
            return list(TIMEFRAMES)
        related: Any = self.model._meta.get_field(name).related_model
        return list(related.objects.values_list("pk", flat=True))


STORED_KINDS = (
    StoredKind(
        name="candles",
        model=Ohlcv,
        time="open_time",
        columns="instrument__coin_id timeframe open_time open high low close volume source "
        "is_sampled received_at",
        changed="received_at",
        leading=("instrument", "timeframe"),
        prune="collectors.services.prune_candles",
    ),
    StoredKind(
        name="replacements",
        model=CandleReplacement,
        time="candle__open_time",
        columns="candle__instrument__coin_id candle__timeframe candle__open_time old_values "
        "old_source new_source reason replaced_at",
        changed="replaced_at",
        keep_days=400,
    ),
    StoredKind(
        name="price_samples",
        model=PriceSample,
        time="at",
        columns="instrument__coin_id at price source received_at",
        changed="received_at",
        leading=("instrument",),
        keep_days=400,
    ),
    StoredKind(
        name="macro",
        model=MacroObservation,
        time="released_at",
        columns="series__series_id date value realtime_start released_at is_release_assumed "
        "received_at",
        changed="received_at",
        leading=("series",),
        is_kept=True,
    ),
    StoredKind(
        name="funding",
        model=FundingRate,
        time="funding_time",
        columns="instrument__coin_id exchange symbol funding_time rate mark_price "
        "interval_hours received_at",
        changed="received_at",
        referring=("payments",),
    ),
    StoredKind(
        name="books",
        model=BookSample,
        time="at",
        columns="instrument__coin_id exchange symbol at best_bid bid_quantity best_ask "
        "ask_quantity spread_bps is_synced mid_price imbalance bid_depth_10_bps ask_depth_10_bps "
        "bid_depth_50_bps ask_depth_50_bps received_at",
        changed="received_at",
        keep_days=400,
    ),
    StoredKind(
        name="book_hours",
        model=BookHour,
        time="hour",
        columns="instrument__coin_id exchange symbol hour synced_s withheld_s spread_bps_mean "
        "spread_bps_min spread_bps_max bid_depth_10_bps ask_depth_10_bps depth_10_bps_s "
        "bid_depth_50_bps ask_depth_50_bps depth_50_bps_s messages gaps resyncs changed_at",
        changed="changed_at",
        keep_days=400,
    ),
    StoredKind(
        name="book_downtimes",
        model=BookDowntime,
        time="at",
        columns="instrument__coin_id exchange symbol at began_at ended_at reason changed_at",
        changed="changed_at",
        keep_days=400,
    ),
    StoredKind(
        name="signals",
        model=Signal,
        time="at",
        columns="strategy instrument__coin_id timeframe bar_open_time at direction confidence "
        "price stop_loss take_profit position_size expires_at reasons created_at",
        changed="created_at",
        is_kept=True,
    ),
    StoredKind(
        name="outside_alerts",
        model=OutsideAlert,
        time="received_at",
        columns="key verdict reason asset signal_type at payload origin folder file_name "
        "received_by received_at",
        changed="received_at",
        keep_days=400,
    ),
    StoredKind(
        name="refused_requests",
        model=RefusedRequest,
        time="at",
        columns="at account__name address by reason asked",
        changed="at",
        keep_days=400,
    ),
    StoredKind(
        name="quality_findings",
        model=QualityFinding,
        time="last_seen_at",
        columns="verdict reason subject instrument__coin_id macro_series__series_id at source "
        "values times first_seen_at last_seen_at",
        changed="last_seen_at",
        keep_days=400,
    ),
    StoredKind(
        name="provider_calls",
        model=ProviderCallMinute,
        time="minute",
        columns="provider endpoint minute calls weight errors response_ms_total",
        changed="minute",
        keep_days=400,
    ),
)
KINDS_BY_NAME = {kind.name: kind for kind in STORED_KINDS}


def _column(model: type[models.Model], path: str) -> Column:
    field, is_nullable = _field(model, path)
    kinds = [kind for type_, kind in COLUMN_KINDS if isinstance(field, type_)]
    parts = path.split("__")
    is_key = len(parts) > 1 and parts[-1] in {"coin_id", "series_id"}
    name = parts[-2] if is_key else parts[-1]
    return Column(name, kinds[0] if kinds else "text", is_nullable=is_nullable)


def _field(model: type[models.Model], path: str) -> tuple[Any, bool]:
    """The field at the end of a path, and whether anything on it may be null."""
    is_nullable = False
    field: Any = None
    for name in path.split("__"):
        field = model._meta.get_field(name)
        is_nullable = is_nullable or field.null
        model = field.related_model or model
    return field, is_nullable


def _encoder(model: type[models.Model], path: str) -> Callable[[Any], Any] | None:
    is_json = isinstance(_field(model, path)[0], models.JSONField)
    return json.dumps if is_json else None
