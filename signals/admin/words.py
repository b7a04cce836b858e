"""What the pages say of runs and outcomes, in words and rows instead of raw values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from signals.models import Signal, SignalOutcome, StrategyConfig
from signals.silence import ALL
from signals.track_record import OutcomeSummary, StrategyHealth


def told_outcome(signal: Signal) -> str:
    """What became of a signal: its result and what ended it, or how far it is known."""
    outcome: SignalOutcome | None = getattr(signal, "outcome", None)
    if outcome is None:
        return ""
    if outcome.result is not None:
        return f"{outcome.result:+.2%}, {outcome.get_exit_display()}"
    told = outcome.get_state_display()
    return f"{told} ({outcome.detail})" if outcome.detail else told


def told_failures(failures: Mapping[str, str]) -> str:
    """Who failed, and why."""
    return "; ".join(f"{name}: {text}" for name, text in failures.items())


def told_silences(withheld: Mapping[str, Mapping[str, str]]) -> str:
    """Who could say nothing, of which coins, and why; coins of one reason together."""
    parts = []
    for strategy, reasons in withheld.items():
        by_reason: dict[str, list[str]] = {}
        for coin_id, reason in reasons.items():
            by_reason.setdefault(reason, []).append("every coin" if coin_id == ALL else coin_id)
        told = "; ".join(f"{', '.join(coins)}: {why}" for why, coins in by_reason.items())
        parts.append(f"{strategy} ({told})")
    return ", ".join(parts)


def told_pending(config: StrategyConfig) -> str:
    """What of a strategy waits for its certificate, or failed it; empty when nothing does."""
    pending = config.pending
    if not pending:
        return ""
    values = ", ".join(f"{name} {value}" for name, value in pending["parameters"].items())
    told = f"parameters ({values or 'the preset'}) asked for by {pending['by']}"
    certificate = pending.get("certificate")
    if certificate is None:
        return f"{told} wait for their certificate; until then the old ones run on"
    where = " at ".join(
        str(certificate[each]) for each in ("failed_check", "failing_bar") if certificate.get(each)
    )
    return f"{told} failed their certificate: {where} ({certificate.get('failing_output')})"


def told_facts(facts: Mapping[str, Any]) -> SafeString:
    """A line for each that is there; long words may be broken on a narrow page."""
    known = ((name, value) for name, value in facts.items() if value not in ("", None))
    return format_html_join("", '<div style="overflow-wrap: anywhere">{}: {}</div>', known)


def told_health(health: StrategyHealth | None) -> str:
    """How a strategy's newest runs went."""
    if health is None:
        return "it has not run"
    parts = [f"{health.failures} of the last {health.runs} failed"]
    if health.consecutive_failures:
        parts.append(f"the newest {health.consecutive_failures} in a row")
    if health.last_failure_at is not None:
        parts.append(f"last at {health.last_failure_at:%Y-%m-%d %H:%M}: {health.last_failure}")
    if health.seconds is not None and health.slowest_seconds is not None:
        parts.append(f"took {health.seconds:.3f} s, at most {health.slowest_seconds:.3f} s")
    return "; ".join(parts)


def outcome_table(
    instruments: Sequence[OutcomeSummary], total: Sequence[OutcomeSummary]
) -> SafeString:
    """A row for each instrument and one for all; words when nothing was said."""
    if not total:
        return format_html("{}", "it has said nothing yet")
    heads = ("", "signals", "ended", "hits", "stops", "targets", "mean result", "1d", "7d")
    return format_html(
        # The cell that it stands in grows with it: without a width it would widen the page.
        '<div class="overflow-x-auto" style="max-width: calc(100vw - 4rem)">'
        '<table class="text-sm"><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>",
        format_html_join(
            "", '<th class="font-normal pr-4 text-left">{}</th>', ((h,) for h in heads)
        ),
        format_html_join("", "<tr>{}</tr>", ((_cells(each),) for each in (*instruments, *total))),
    )


def _cells(summary: OutcomeSummary) -> SafeString:
    values = (
        summary.coin_id or "all",
        summary.signals,
        summary.ended,
        summary.hits if summary.hit_rate is None else f"{summary.hits} ({summary.hit_rate:.0%})",
        summary.stops,
        summary.targets,
        _percent(summary.mean_result),
        _percent(summary.horizons["1d"].mean_return),
        _percent(summary.horizons["7d"].mean_return),
    )
    return format_html_join("", '<td class="font-mono pr-4">{}</td>', ((each,) for each in values))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.2%}"
