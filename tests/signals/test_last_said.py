"""A state is compared with what was last said of it, so no change is lost on the way."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from collectors.models import Instrument, Ohlcv
from signals import services
from signals.forecasts import Stance, forecasts_of_row, stance_at
from signals.models import BarRun, RunState, Signal, StrategyConfig
from signals.registry import STRATEGIES
from signals.selectors import analyse_history, last_said
from signals.services.bar_runs import FIRST_PATIENCE
from signals.strategy import Analysis
from trading.tape import changed_rows

HOUR = timedelta(hours=1)
START = datetime(2021, 5, 3, tzinfo=UTC)
ENABLED = ("mean_reversion", "vix_correlation")
LATE = timedelta(seconds=40)  # the patience of 30 s is over, 5 wall seconds of widening included

pytestmark = pytest.mark.django_db


def said(strategy: str = "mean_reversion") -> list[tuple[datetime, str]]:
    """When which state of bitcoin was said."""
    signals = Signal.objects.filter(strategy=strategy, instrument__coin_id="bitcoin")
    return [(each.bar_open_time, each.signal_type) for each in signals.order_by("bar_open_time")]


def entry_of_bitcoin() -> datetime:
    """The first bar at which the history as it is stored says LONG."""
    run = analyse_history(
        strategy_name="mean_reversion",
        coin_ids=["bitcoin"],
        timeframe="1h",
        start=START,
        end=START + 20 * HOUR,
    )
    return START + int(run.analysis.direction[:, 0].argmax()) * HOUR


@pytest.fixture
def run_through(clock_at):
    """Runs every bar that closes by the given hours after START."""

    def run(hours: int) -> list[BarRun]:
        clock_at(START + hours * HOUR + LATE)
        return services.run_due_bars(timeframe="1h")

    return run


@pytest.fixture
def long_since(seeded, run_through) -> int:
    """Runs into bitcoin's LONG; gives how many hours after START the bar that said it opens."""
    for hours in range(20):
        run_through(hours)
        if said():
            break
    [(bar, signal_type)] = said()
    assert signal_type == "LONG"
    return (bar - START) // HOUR


def test_undisturbed_history_is_said_as_a_backtest_trades_it(make_market):
    rng = np.random.default_rng(11)
    shape = (400, 3)
    direction = np.repeat(rng.integers(-1, 2, (80, 3)), 5, axis=0).astype(np.int8)
    stop = np.where(rng.random(shape) < 0.2, np.nan, np.repeat(rng.integers(1, 3, (200, 3)), 2, 0))
    stop = np.where(direction == 0, np.nan, stop)
    ones = np.ones(shape)
    analysis = Analysis(
        direction=direction, confidence=ones, stop_loss=stop, take_profit=ones, position_size=ones
    )
    market = make_market(ones)
    stances: dict[tuple[str, str], Stance] = {}
    heard = np.zeros(shape, dtype=bool)
    for row in range(1, len(direction)):
        for forecast in forecasts_of_row(
            analyses={"any": analysis}, panel=None, market=market, row=row, last_said=stances
        ):
            column = market.instruments.index(forecast.coin_id)
            heard[row, column] = True
            stances["any", forecast.coin_id] = stance_at(analysis, row, column)
    assert heard.any()
    assert np.array_equal(heard[1:], changed_rows(direction, stop)[1:])


def test_a_candle_that_comes_late_does_not_swallow_the_entry(long_since, run_through):
    gap = START + (long_since + 1) * HOUR
    late = Ohlcv.objects.get(instrument__coin_id="bitcoin", open_time=gap)
    late.delete()
    [run] = run_through(long_since + 2)
    assert not run.is_complete
    assert said()[1:] == [(gap, "FLAT")]
    missing = "the bar itself is missing"
    assert run.withheld["mean_reversion"]["bitcoin"] == missing
    flat = Signal.objects.get(strategy="mean_reversion", bar_open_time=gap)
    assert flat.reasons["withheld"] == missing
    late.pk = None
    late.save()
    run_through(long_since + 3)
    for strategy in ("mean_reversion", "consensus"):
        assert said(strategy)[1:] == [(gap, "FLAT"), (gap + HOUR, "LONG")]


def test_a_candle_that_comes_late_does_not_swallow_the_first_entry(seeded, run_through):
    entry = entry_of_bitcoin()
    hours = (entry - START) // HOUR
    run_through(hours)
    late = Ohlcv.objects.get(instrument__coin_id="bitcoin", open_time=entry)
    late.delete()
    [run] = run_through(hours + 1)
    assert (run.is_complete, said()) == (False, [])
    late.pk = None
    late.save()
    run_through(hours + 2)
    assert said() == said("consensus") == [(entry + HOUR, "LONG")]


def test_who_begins_in_the_middle_of_a_state_says_only_its_end(seeded, run_through, clock_at):
    middle = entry_of_bitcoin() + 2 * HOUR
    clock_at(middle + HOUR, start=middle + HOUR)
    services.run_due_bars(timeframe="1h")
    assert said() == said("consensus") == []
    run_through(20)
    assert [signal_type for _, signal_type in said()] == ["FLAT"]
    assert said() == said("consensus")


def test_history_that_comes_late_is_no_entry(seeded, run_through, clock_at):
    middle = entry_of_bitcoin() + 2 * HOUR
    history = list(Ohlcv.objects.filter(open_time__lt=middle))
    Ohlcv.objects.filter(open_time__lt=middle).delete()
    clock_at(middle + HOUR + LATE + FIRST_PATIENCE, start=middle + HOUR)
    [run] = services.run_due_bars(timeframe="1h")
    assert not run.is_complete
    Ohlcv.objects.bulk_create(history)
    run_through((middle - START) // HOUR + 2)
    assert said() == []


def test_a_corrected_print_takes_back_what_it_caused(long_since, run_through):
    calm = Ohlcv.objects.filter(instrument__coin_id="bitcoin", open_time__gte=START)
    calm.update(open=100.0, high=100.0, low=100.0, close=100.0)
    run_through(long_since + 2)
    for strategy in ("mean_reversion", "consensus"):
        assert said(strategy)[1:] == [(START + (long_since + 1) * HOUR, "FLAT")]


def test_the_stop_is_compared_with_the_one_that_was_said(long_since, run_through):
    Signal.objects.filter(strategy="mean_reversion").update(stop_loss=12.5)
    run_through(long_since + 2)
    again = Signal.objects.filter(strategy="mean_reversion", direction=1).latest("bar_open_time")
    assert again.bar_open_time == START + (long_since + 1) * HOUR
    assert again.stop_loss != 12.5


def test_a_strategy_disabled_while_long_says_flat(long_since, run_through):
    services.configure_strategy(name="mean_reversion", is_enabled=False)
    gone = START + (long_since + 1) * HOUR
    run_through(long_since + 4)
    flat = Signal.objects.get(strategy="mean_reversion", bar_open_time=gone)
    assert (flat.signal_type, flat.reasons) == ("FLAT", {"withdrawn": "not enabled"})
    assert (flat.stop_loss, flat.take_profit, flat.position_size) == (None, None, None)
    candle = Ohlcv.objects.get(instrument=flat.instrument, open_time=gone)
    assert flat.price == candle.close
    assert said()[1:] == said("consensus")[1:] == [(gone, "FLAT")]
    services.configure_strategy(name="mean_reversion", is_enabled=True)
    run_through(long_since + 5)
    assert said()[2:] == said("consensus")[2:] == [(START + (long_since + 4) * HOUR, "LONG")]


def test_the_last_strategy_disabled_takes_the_consensus_with_it(long_since, run_through):
    StrategyConfig.objects.update(is_enabled=False)
    gone = START + (long_since + 1) * HOUR
    Ohlcv.objects.filter(open_time=gone).delete()  # the last close stands in for the price
    [*_, run] = run_through(long_since + 3)
    flat = Signal.objects.get(strategy="consensus", bar_open_time=gone)
    assert flat.reasons == {"withdrawn": "no strategy is enabled"}
    assert flat.price == Signal.objects.get(strategy="consensus", direction=1).price
    assert said()[1:] == said("consensus")[1:] == [(gone, "FLAT")]
    assert run.signal_count == 0


def test_a_strategy_that_lost_its_certificate_says_flat(long_since, run_through):
    StrategyConfig.objects.filter(name="mean_reversion").update(certificate_hash="old")
    [run] = run_through(long_since + 2)
    flat = Signal.objects.get(strategy="mean_reversion", direction=0)
    assert flat.run == run
    assert flat.reasons == {"withdrawn": "no certificate for this code and these parameters"}


def test_an_instrument_that_is_no_longer_offered_is_flat(long_since, run_through):
    Instrument.objects.filter(coin_id="bitcoin").update(is_strategy_enabled=False)
    run_through(long_since + 2)
    for strategy in ("mean_reversion", "consensus"):
        flat = Signal.objects.get(strategy=strategy, direction=0)
        assert flat.reasons == {"withdrawn": "the instrument is not offered to strategies"}


def test_a_strategy_that_raises_says_nothing_and_then_what_it_missed(
    long_since, run_through, monkeypatch
):
    def fail(self, market):
        raise ZeroDivisionError("broken")

    calm = Ohlcv.objects.filter(instrument__coin_id="bitcoin", open_time__gte=START)
    calm.update(open=100.0, high=100.0, low=100.0, close=100.0)
    with monkeypatch.context() as broken:
        for name in ENABLED:
            broken.setattr(STRATEGIES[name], "analyze", fail)
        [run] = run_through(long_since + 2)
    assert set(run.failures) == set(ENABLED)
    assert run.signal_count == 0
    run_through(long_since + 3)
    assert said()[1:] == said("consensus")[1:] == [(START + (long_since + 2) * HOUR, "FLAT")]


def test_a_bar_that_is_run_again_says_the_same(long_since, run_through):
    before = list(Signal.objects.order_by("pk").values())
    again = BarRun.objects.filter(bar_open_time=START + long_since * HOUR)
    again.update(state=RunState.RUNNING, leased_until=None)
    assert len(run_through(long_since + 1)) == 1
    assert list(Signal.objects.order_by("pk").values()) == before


def test_what_was_last_said_is_one_look_for_all(long_since, django_assert_num_queries):
    with django_assert_num_queries(2):  # the names of the strategies, and their signals
        found = last_said(timeframe="1h", before=START + (long_since + 1) * HOUR)
    assert {(each.strategy, each.instrument.coin_id) for each in found} == {
        ("mean_reversion", "bitcoin"),
        ("consensus", "bitcoin"),
    }
    assert last_said(timeframe="1h", before=START + long_since * HOUR) == []
    assert last_said(timeframe="4h", before=START + 100 * HOUR) == []
