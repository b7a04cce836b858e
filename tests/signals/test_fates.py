"""The fates of stored signals: a row each, completed step by step, corrected, summed up."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import F

from collectors.models import CandleHole, HoleLabel, Instrument, Ohlcv, Series
from signals import services
from signals.models import BarRun, OutcomeState, RunState, Signal, SignalOutcome
from signals.services import outcomes
from signals.track_record import WATCHED, outcome_summary, strategy_health

HOUR = timedelta(hours=1)
START = datetime(2021, 5, 3, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def fates() -> list[dict]:
    """What the outcomes say, without when they said it."""
    rows = SignalOutcome.objects.order_by("signal__strategy", "entry_at", "signal__instrument")
    return [
        {name: value for name, value in row.items() if name not in ("changed_at", "revision")}
        for row in rows.values()
    ]


def grow() -> None:
    """What the storing of a newer candle does to a series."""
    Series.objects.update(revision=F("revision") + 1)


def rewrite() -> None:
    """What a change of an earlier candle does to a series."""
    grow()
    Series.objects.update(rewritten_revision=F("revision"))


@pytest.fixture
def say(stored_crash, clock_at):
    """Stores a signal of bitcoin, or ethereum, at the bar that opens so many hours after START."""
    bitcoin, ethereum = stored_crash
    run = BarRun.objects.create(
        timeframe="1h", bar_open_time=START, state=RunState.DONE, started_at=START
    )

    def store(hours: int, direction: int, *, ether: bool = False, **levels: float) -> Signal:
        signal = Signal.objects.create(
            strategy="any",
            instrument=ethereum if ether else bitcoin,
            timeframe="1h",
            bar_open_time=START + hours * HOUR,
            at=START + (hours + 1) * HOUR,
            direction=direction,
            confidence=0.5,
            price=100.0,
            expires_at=START + (hours + 3) * HOUR,
            run=run,
            created_at=START,
            **levels,
        )
        services.open_outcomes(signals=[signal])
        return signal

    return store


def candle(hours: int, instrument: Instrument) -> Ohlcv:
    return Ohlcv.objects.get(instrument=instrument, open_time=START + hours * HOUR)


def test_a_run_gives_each_signal_that_is_not_flat_a_fate(seeded, clock_at):
    clock_at(START + 20 * HOUR)
    services.run_due_bars(timeframe="1h")
    said = Signal.objects.exclude(direction=0)
    assert said.exists()
    assert Signal.objects.filter(direction=0).exists()
    assert set(SignalOutcome.objects.values_list("pk", flat=True)) == set(
        said.values_list("pk", flat=True)
    )
    assert services.advance_outcomes() == said.count()
    for signal in said:
        flat = Signal.objects.filter(
            strategy=signal.strategy, instrument=signal.instrument, direction=0
        ).get()
        outcome = signal.outcome
        assert (outcome.entry_at, outcome.ended_at) == (signal.at, flat.at)
        assert outcome.entry_price == candle((signal.at - START) // HOUR, signal.instrument).open
    assert services.advance_outcomes() == 0
    before = fates()
    BarRun.objects.filter(pk=said[0].run_id).update(state=RunState.RUNNING)
    services.run_due_bars(timeframe="1h")
    assert fates() == before


def test_step_by_step_ends_as_all_at_once(say, clock_at):
    say(-1, 1, stop_loss=97.0, take_profit=104.0)
    say(3, -1)
    say(8, 0)
    say(-1, 1, ether=True, stop_loss=90.0, take_profit=110.0)
    for hours in range(1, 25):
        clock_at(START + hours * HOUR)
        assert services.advance_outcomes() <= 3
        assert services.advance_outcomes() == 0
        grow()
    stepped = fates()
    SignalOutcome.objects.all().delete()
    services.open_outcomes(signals=Signal.objects.select_related("instrument"))
    assert services.advance_outcomes() == 3
    assert fates() == stepped
    stopped, short, calm = SignalOutcome.objects.order_by("pk")
    assert (stopped.exit, stopped.is_hit, stopped.exit_price) == ("stop", False, 97.0)
    assert (short.exit, short.is_hit, short.exit_at) == ("state", True, START + 9 * HOUR)
    assert short.result == pytest.approx(1 - short.exit_price / short.entry_price)
    assert (calm.exit, calm.state, calm.due_at) == ("", OutcomeState.OPEN, START + 25 * HOUR)
    assert calm.return_1d is not None
    assert calm.return_3d is None


def test_a_hole_holds_up_the_stand_until_it_is_repaired(say, clock_at):
    outcome = say(-1, 1, stop_loss=90.0).outcome
    lost = candle(3, outcome.signal.instrument)
    lost.delete()
    clock_at(START + 20 * HOUR)
    services.advance_outcomes()
    outcome.refresh_from_db()
    assert (outcome.state, outcome.exit) == (OutcomeState.WAITING, "")
    assert outcome.detail == "the bar of 2021-05-03 03:00 is missing"
    assert outcome.return_4h is None
    assert services.advance_outcomes() == 0
    lost.pk = None
    lost.save()
    rewrite()
    assert services.advance_outcomes() == 1
    outcome.refresh_from_db()
    assert (outcome.state, outcome.exit, outcome.detail) == (OutcomeState.OPEN, "stop", "")
    assert outcome.return_4h == pytest.approx(lost.close / outcome.entry_price - 1)


def test_a_hole_that_nobody_can_repair_is_counted_and_passed(say, clock_at):
    outcome = say(-1, 1, stop_loss=90.0).outcome
    lost = candle(3, outcome.signal.instrument)
    lost.delete()
    CandleHole.objects.create(
        instrument=lost.instrument, timeframe="1h", start=lost.open_time, end=lost.open_time,
        label=HoleLabel.UNREPAIRABLE, seen_at=START,
    )  # fmt: skip
    clock_at(START + 20 * HOUR)
    services.advance_outcomes()
    outcome.refresh_from_db()
    assert (outcome.exit, outcome.missing_bars, outcome.return_4h) == ("stop", 1, None)


def test_nothing_is_waited_for_for_ever(say, clock_at):
    outcome = say(-1, 1).outcome
    clock_at(START + WATCHED)
    services.advance_outcomes()
    outcome.refresh_from_db()
    assert (outcome.state, outcome.due_at) == (OutcomeState.DONE, None)
    assert outcome.missing_bars == 168 - 24
    never = say(100, 1).outcome  # no candle at its entry
    clock_at(START + WATCHED + 200 * HOUR)
    services.advance_outcomes()
    never.refresh_from_db()
    assert (never.state, never.is_hit) == (OutcomeState.UNKNOWABLE, None)


def test_a_corrected_candle_corrects_the_fate_for_a_while(say, clock_at):
    outcome = say(-1, 1, ether=True, stop_loss=90.0).outcome
    clock_at(START + 20 * HOUR)
    services.advance_outcomes()
    outcome.refresh_from_db()
    assert outcome.exit == ""
    wrong = candle(2, outcome.signal.instrument)
    Ohlcv.objects.filter(pk=wrong.pk).update(low=80.0)
    rewrite()
    assert services.advance_outcomes() == 1
    outcome.refresh_from_db()
    assert (outcome.exit, outcome.exit_at) == ("stop", START + 2 * HOUR)
    clock_at(START + WATCHED + HOUR)
    services.advance_outcomes()
    Ohlcv.objects.filter(pk=wrong.pk).update(low=wrong.low)
    rewrite()
    assert services.advance_outcomes() == 0
    outcome.refresh_from_db()
    assert outcome.exit == "stop"


def test_who_computes_from_older_candles_overwrites_nothing(say, clock_at, monkeypatch):
    outcome = say(-1, 1, ether=True, stop_loss=90.0).outcome
    clock_at(START + 20 * HOUR)
    read = outcomes.candle_history

    def slow(**wanted):
        """While one reads, a candle is corrected, and another computes from it."""
        monkeypatch.setattr(outcomes, "candle_history", read)
        candles = read(**wanted)
        Ohlcv.objects.filter(instrument=outcome.signal.instrument, open_time=START).update(low=80.0)
        rewrite()
        assert services.advance_outcomes() == 1
        return candles

    monkeypatch.setattr(outcomes, "candle_history", slow)
    assert services.advance_outcomes() == 1
    outcome.refresh_from_db()
    assert (outcome.exit, outcome.exit_at) == ("stop", START)


def test_a_signal_that_is_written_late_still_ends_the_stand(say, clock_at):
    outcome = say(-1, 1, stop_loss=90.0).outcome
    clock_at(START + 20 * HOUR)
    services.advance_outcomes()
    outcome.refresh_from_db()
    assert outcome.exit == "stop"
    say(0, 0)
    assert services.advance_outcomes() == 1
    outcome.refresh_from_db()
    assert (outcome.exit, outcome.exit_at) == ("state", START + HOUR)


def test_a_batch_is_read_at_once(say, clock_at, django_assert_max_num_queries):
    for hours in range(-1, 9):
        say(hours, 1 if hours % 2 else -1)
        say(hours, 1 if hours % 2 else -1, ether=True)
    clock_at(START + 20 * HOUR)
    with django_assert_max_num_queries(14):
        assert services.advance_outcomes() == 20


def test_the_summary_counts_what_is_known(say, clock_at):
    say(-1, 1, stop_loss=97.0, take_profit=104.0)
    say(3, -1)
    say(8, 0)
    say(-1, 1, ether=True, stop_loss=90.0, take_profit=110.0)
    assert outcome_summary()[0].hit_rate is None
    clock_at(START + 20 * HOUR)
    services.advance_outcomes()
    [summary] = outcome_summary()
    assert (summary.strategy, summary.coin_id) == ("any", None)
    assert (summary.signals, summary.ended, summary.hits, summary.stops) == (3, 2, 1, 1)
    assert summary.hit_rate == 0.5
    results = list(SignalOutcome.objects.exclude(exit="").values_list("result", flat=True))
    assert summary.mean_result == pytest.approx(sum(results) / 2)
    returns = list(SignalOutcome.objects.values_list("return_4h", flat=True))
    assert summary.horizons["4h"].count == 3
    assert summary.horizons["4h"].mean_return == pytest.approx(sum(returns) / 3)
    assert summary.horizons["3d"].mean_return is None
    bitcoin, ethereum = outcome_summary(by_instrument=True)
    assert (bitcoin.coin_id, bitcoin.signals) == ("bitcoin", 2)
    assert (ethereum.coin_id, ethereum.ended) == ("ethereum", 0)
    assert outcome_summary(coin_id="ethereum")[0].signals == 1
    assert outcome_summary(since=START + HOUR)[0].signals == 1
    assert outcome_summary(strategy="none") == []


def test_health_counts_back_from_the_newest_run():
    for hours, failures, durations in (
        (0, {}, {"a": 0.1, "b": 0.1}),
        (1, {"a": "old"}, {"a": 0.9, "b": 0.2}),
        (2, {"b": "broken"}, {"a": 0.3, "b": 0.1}),
        (3, {"b": "broken again", "c": "no certificate"}, {"a": 0.2}),
    ):
        BarRun.objects.create(
            timeframe="1h", bar_open_time=START + hours * HOUR, state=RunState.DONE,
            started_at=START, failures=failures, durations=durations,
        )  # fmt: skip
    a, b, c = strategy_health(timeframe="1h")
    assert (a.runs, a.failures, a.consecutive_failures, a.last_failure) == (4, 1, 0, "old")
    assert (a.seconds, a.slowest_seconds, a.last_failure_at) == (0.2, 0.9, START + HOUR)
    assert (b.runs, b.consecutive_failures, b.last_failure) == (4, 2, "broken again")
    assert (c.runs, c.consecutive_failures, c.seconds) == (1, 1, None)
    assert strategy_health(timeframe="4h") == []
