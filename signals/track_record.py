"""What can be read of how strategies did: the fates of their signals, and how their runs went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, F, Min, OuterRef, Q, Subquery

from collectors.models import CandleHole, HoleLabel, Series
from signals.models import BarRun, Exit, OutcomeState, RunState, Signal, SignalOutcome
from signals.outcomes import HORIZONS_MS, LAST_HORIZON_MS

HEALTH_RUNS = 100
SEVEN_DAYS = timedelta(milliseconds=LAST_HORIZON_MS)
# After it, no candle that is corrected or comes late changes a fate any more.
WATCHED = SEVEN_DAYS + timedelta(days=30)
LATE = timedelta(hours=2)
DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class HorizonSummary:
    """The forward returns of a horizon: of how many signals they are known, and their mean (a
    fraction in the signal's direction); None without any."""

    count: int
    mean_return: float | None


@dataclass(frozen=True, kw_only=True)
class OutcomeSummary:
    """How the signals of a strategy (and an instrument) did.

    `signals` are those that are not flat, `ended` of them those whose stand has ended: only they
    have a result and can be hits. Rates and means are fractions, None where nothing is known.
    """

    strategy: str
    coin_id: str | None
    signals: int
    ended: int
    hits: int
    hit_rate: float | None
    stops: int
    targets: int
    mean_result: float | None
    mean_best_return: float | None
    mean_worst_return: float | None
    horizons: Mapping[str, HorizonSummary]


@dataclass(frozen=True, kw_only=True)
class StrategyHealth:
    """How a strategy's runs went, of the last HEALTH_RUNS finished ones of its timeframe.

    `consecutive_failures` counts back from the newest run, `last_failure` says what the newest
    failed one raised and at which bar; `seconds` is the time of the newest run that has one.
    """

    strategy: str
    runs: int
    failures: int
    consecutive_failures: int
    last_failure: str
    last_failure_at: datetime | None
    seconds: float | None
    slowest_seconds: float | None


def due_outcomes(*, now: datetime, limit: int) -> list[SignalOutcome]:
    """The outcomes of which something new may be known at `now` (market time), oldest first.

    That is: the bar it waits for is closed and its series has grown; a bar is late, or waited for
    since an hour; a candle before was changed; or another signal has ended the stand. Each row
    carries the revision of its series and the end of its stand as they are now.
    """
    series = Series.objects.filter(key=OuterRef("series_key"))
    following = Signal.objects.filter(
        strategy=OuterRef("signal__strategy"),
        instrument=OuterRef("signal__instrument"),
        timeframe=OuterRef("signal__timeframe"),
        bar_open_time__gt=OuterRef("signal__bar_open_time"),
    ).order_by("bar_open_time")
    waits = Q(state=OutcomeState.WAITING)
    is_due = (
        Q(due_at__lte=now, newest__gt=F("revision"))
        | Q(due_at__lte=now - LATE)
        | (waits & (Q(due_at__lte=now) | Q(newest__gt=F("revision"))))
        | Q(rewritten__gt=F("revision"))
        | (Q(next_at__isnull=False) & (Q(ended_at__isnull=True) | ~Q(ended_at=F("next_at"))))
    )
    rows = (
        SignalOutcome.objects.filter(
            Q(due_at__isnull=False)
            | Q(entry_at__gte=now - SEVEN_DAYS - DAY)
            | Q(entry_at__gte=now - WATCHED, series_key__in=_rewritten_series(now))
        )
        .annotate(
            newest=Subquery(series.values("revision")[:1]),
            rewritten=Subquery(series.values("rewritten_revision")[:1]),
            next_at=Subquery(following.values("at")[:1]),
        )
        .filter(is_due)
        .select_related("signal__instrument")
        .order_by("entry_at", "pk")[:limit]
    )
    found: list[SignalOutcome] = []
    for row in rows:
        row.revision = max(row.revision, row.newest or 0)
        row.ended_at = row.next_at
        found.append(row)
    return found


def _rewritten_series(now: datetime) -> list[str]:
    """The series changed since outcomes that a change may still correct were computed from them:
    asked once per series, as there are many outcomes, and few changes."""
    watched = SignalOutcome.objects.filter(entry_at__gte=now - WATCHED).order_by()
    oldest = dict(
        watched.values("series_key")
        .annotate(oldest=Min("revision"))
        .values_list("series_key", "oldest")
    )
    series = Series.objects.filter(key__in=oldest).values_list("key", "rewritten_revision")
    return [key for key, rewritten in series if rewritten > oldest[key]]


def final_holes(
    *, coin_ids: Sequence[str], timeframe: str, label: HoleLabel
) -> list[tuple[str, datetime, datetime]]:
    """The holes of a label: coin id, and the open times of their first and last bar."""
    return list(
        CandleHole.objects.filter(
            instrument__coin_id__in=coin_ids, timeframe=timeframe, label=label
        ).values_list("instrument__coin_id", "start", "end")
    )


def outcome_summary(
    *,
    strategy: str | None = None,
    coin_id: str | None = None,
    since: datetime | None = None,
    by_instrument: bool = False,
) -> list[OutcomeSummary]:
    """How the signals did per strategy, or per strategy and instrument, by name.

    `since` is market time, of the entry. One query.
    """
    rows = SignalOutcome.objects.order_by()
    if strategy is not None:
        rows = rows.filter(signal__strategy=strategy)
    if coin_id is not None:
        rows = rows.filter(signal__instrument__coin_id=coin_id)
    if since is not None:
        rows = rows.filter(entry_at__gte=since)
    groups = {"name": F("signal__strategy")}
    if by_instrument:
        groups["coin"] = F("signal__instrument__coin_id")
    found = rows.values(**groups).annotate(**_figures()).order_by(*groups)
    return [_summary(row) for row in found]


def strategy_health(*, timeframe: str) -> list[StrategyHealth]:
    """How each strategy of a timeframe did in its last runs, by name. One query."""
    runs = list(
        BarRun.objects.filter(timeframe=timeframe, state=RunState.DONE)
        .order_by("-bar_open_time")
        .values_list("bar_open_time", "failures", "durations")[:HEALTH_RUNS]
    )
    names = {name for _, failures, durations in runs for name in (*failures, *durations)}
    return [_health(name, runs) for name in sorted(names)]


def _figures() -> dict[str, Any]:
    figures: dict[str, Any] = {
        "signals": Count("pk"),
        "ended": Count("pk", filter=~Q(exit="")),
        "hits": Count("pk", filter=Q(is_hit=True)),
        "stops": Count("pk", filter=Q(exit=Exit.STOP)),
        "targets": Count("pk", filter=Q(exit=Exit.TARGET)),
        "mean_result": Avg("result"),
        "mean_best": Avg("best_return", filter=~Q(exit="")),
        "mean_worst": Avg("worst_return", filter=~Q(exit="")),
    }
    for name in HORIZONS_MS:
        figures[f"count_{name}"] = Count(f"return_{name}")
        figures[f"mean_{name}"] = Avg(f"return_{name}")
    return figures


def _summary(row: Mapping[str, Any]) -> OutcomeSummary:
    return OutcomeSummary(
        strategy=row["name"],
        coin_id=row.get("coin"),
        signals=row["signals"],
        ended=row["ended"],
        hits=row["hits"],
        hit_rate=row["hits"] / row["ended"] if row["ended"] else None,
        stops=row["stops"],
        targets=row["targets"],
        mean_result=row["mean_result"],
        mean_best_return=row["mean_best"],
        mean_worst_return=row["mean_worst"],
        horizons={
            name: HorizonSummary(count=row[f"count_{name}"], mean_return=row[f"mean_{name}"])
            for name in HORIZONS_MS
        },
    )


def _health(
    name: str, runs: list[tuple[datetime, Mapping[str, str], Mapping[str, float]]]
) -> StrategyHealth:
    """`runs` are newest first: bar, failures, durations."""
    taken = [
        (bar, failures.get(name), durations.get(name))
        for bar, failures, durations in runs
        if name in failures or name in durations
    ]
    failed = [(bar, text) for bar, text, _ in taken if text is not None]
    seconds = [each for _, _, each in taken if each is not None]
    consecutive = next(
        (count for count, (_, text, _) in enumerate(taken) if text is None), len(taken)
    )
    return StrategyHealth(
        strategy=name,
        runs=len(taken),
        failures=len(failed),
        consecutive_failures=consecutive,
        last_failure=failed[0][1] if failed else "",
        last_failure_at=failed[0][0] if failed else None,
        seconds=seconds[0] if seconds else None,
        slowest_seconds=max(seconds, default=None),
    )
