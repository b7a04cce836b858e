"""Bar runs: in order, once, under a lease, and what they leave behind."""

import json
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.conf import settings
from django.db import connection

from collectors import clock
from collectors.models import MacroSeries, Ohlcv
from signals import selectors, services
from signals.consensus import reasons_at
from signals.events import bar_run_finished
from signals.models import BarRun, RunState, Signal, StrategyConfig
from signals.registry import STRATEGIES
from signals.selectors import analyse_history, due_bars, latest_signals
from signals.services import leases
from signals.strategy import Analysis, Market, Strategy

HOUR = timedelta(hours=1)
START = datetime(2021, 5, 3, tzinfo=UTC)


def rows() -> list[tuple]:
    """What the signals say, without times of the wall clock."""
    return list(
        Signal.objects.order_by("bar_open_time", "strategy", "instrument").values_list(
            "strategy", "instrument__coin_id", "bar_open_time", "direction", "confidence",
            "price", "stop_loss", "take_profit", "position_size", "expires_at",
        )
    )  # fmt: skip


# -- Which bars are due ------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_bar_closes_at_the_start_of_the_clock(clock_at):
    clock_at(START + 2.5 * HOUR)
    assert due_bars(timeframe="1h", limit=10) == [START - HOUR, START, START + HOUR]
    clock_at(START + 2.5 * HOUR, start=START + 0.5 * HOUR)
    assert due_bars(timeframe="1h", limit=1) == [START]


@pytest.mark.django_db
def test_without_a_start_the_last_closed_bar_is_first():
    now = clock.now()
    [bar] = due_bars(timeframe="1h", limit=10)
    assert bar + HOUR <= now < bar + 2 * HOUR


@pytest.mark.django_db
def test_the_next_bar_follows_the_last_finished_one(clock_at):
    clock_at(START + 5 * HOUR)
    BarRun.objects.create(
        timeframe="1h", bar_open_time=START, state=RunState.DONE, started_at=START
    )
    BarRun.objects.create(timeframe="1h", bar_open_time=START + HOUR, started_at=START)
    assert due_bars(timeframe="1h", limit=2) == [START + HOUR, START + 2 * HOUR]


# -- Runs --------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_due_bars_become_signals(seeded, clock_at, redis_client):
    finished = []

    def remember(**event):
        finished.append((event["bar_open_time"], len(event["signal_ids"])))

    bar_run_finished.connect(remember)
    clock_at(START + 20 * HOUR)
    runs = services.run_due_bars(timeframe="1h")
    bar_run_finished.disconnect(remember)

    assert [run.bar_open_time for run in runs] == [START + index * HOUR for index in range(-1, 20)]
    assert all(run.state == RunState.DONE and run.is_complete for run in runs)
    assert runs[0].revisions == {
        "candles:bitcoin:1h": 7,
        "candles:ethereum:1h": 7,
        "macro:VIXCLS": 2,
    }
    assert [bar for bar, _ in finished] == [run.bar_open_time for run in runs]
    assert sum(count for _, count in finished) == Signal.objects.count()

    signals = Signal.objects.filter(strategy="mean_reversion").order_by("bar_open_time")
    entry, leave = signals.filter(instrument__coin_id="bitcoin")
    assert (entry.signal_type, leave.signal_type) == ("LONG", "FLAT")
    assert entry.stop_loss == pytest.approx(entry.price * 0.95)
    assert entry.risk_level == "medium"
    assert entry.at == entry.bar_open_time + HOUR
    assert entry.expires_at == entry.at + 2 * HOUR
    assert entry.reasons["vix"] == 30.0
    assert (leave.stop_loss, leave.position_size, leave.confidence) == (None, None, 0.0)

    voice = Signal.objects.get(strategy="consensus", bar_open_time=entry.bar_open_time)
    assert (voice.direction, voice.stop_loss) == (1, entry.stop_loss)
    assert voice.reasons["rule"] == "single"
    assert voice.reasons["votes"]["mean_reversion"]["vote"] == entry.confidence

    assert json.loads(redis_client.get("signal:mean_reversion:bitcoin"))["signal_type"] == "FLAT"
    assert 0 < redis_client.ttl("signal:consensus:bitcoin") <= 24 * 3600
    written = sorted((settings.DATA_DIR / "signals").glob(f"signals_{entry.at:%Y%m%d_%H%M%S}*"))
    content = json.loads(written[-1].read_text())
    assert content["market_context"]["vix_level"] == 30.0
    assert {item["strategy"] for item in content["signals"]} == {"mean_reversion", "consensus"}


@pytest.mark.django_db
def test_bar_by_bar_gives_the_same_as_all_at_once(seeded, clock_at):
    clock_at(START + 20 * HOUR)
    services.run_due_bars(timeframe="1h")
    at_once = rows()
    assert at_once
    Signal.objects.all().delete()
    BarRun.objects.all().delete()
    for hour in range(21):
        clock_at(START + hour * HOUR)
        assert len(services.run_due_bars(timeframe="1h")) == 1
    assert rows() == at_once


@pytest.mark.django_db
def test_live_signals_are_the_changes_of_the_history(seeded, clock_at):
    clock_at(START + 20 * HOUR)
    services.run_due_bars(timeframe="1h")
    for name in ("mean_reversion", "consensus"):
        run = analyse_history(
            strategy_name=name,
            coin_ids=["ethereum", "bitcoin"],
            timeframe="1h",
            start=START - 2 * HOUR,
            end=START + 20 * HOUR,
        )
        state = run.analysis.direction[:, 1].tolist()
        changes = [index for index in range(1, len(state)) if state[index] != state[index - 1]]
        live = Signal.objects.filter(strategy=name, instrument__coin_id="bitcoin")
        stored = live.order_by("bar_open_time").values_list("bar_open_time", "direction", "price")
        assert [
            (START + (index - 2) * HOUR, state[index], run.market.close[index, 1])
            for index in changes
        ] == list(stored)


class Alternating(Strategy):
    """Changes its mind every few hours, by the price's last digits: something to vote about."""

    timeframe = "1h"
    lookback = 10

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed = name, seed

    def analyze(self, market: Market) -> Analysis:
        hours = market.open_time[:, np.newaxis] // 3_600_000 // (3 + self.seed)
        column = np.arange(len(market.instruments))
        noise = np.sin((hours + 11 * column) * (1.7 + self.seed)) * 1e4
        share = noise - np.floor(noise)
        active = share > 0.3
        return Analysis(
            direction=np.where(active, np.where(share > 0.65, 1, -1), 0).astype(np.int8),
            confidence=np.where(active, share, 0.0),
            stop_loss=np.where(active, market.close * (1.0 - 0.1 * share), np.nan),
            take_profit=np.where(active, market.close * 1.2, np.nan),
            position_size=np.where(active, share / 20.0, 0.0),
        )


@pytest.mark.django_db
def test_a_live_consensus_is_the_row_of_a_backtest_bit_for_bit(stored_crash, clock_at, monkeypatch):
    """Bar by bar, a batch of all bars, and a history of one instrument over months: with voters
    that meet all the time, so that records and regimes decide."""
    members = {
        name: selectors.Member(strategy=Alternating(name, seed), weight=1.0 + seed / 10.0)
        for seed, name in enumerate("abcd")
    }
    monkeypatch.setattr(selectors, "runnable_members", lambda timeframe: (dict(members), {}))
    history = analyse_history(
        strategy_name="consensus",
        coin_ids=["bitcoin"],
        timeframe="1h",
        start=START - 200 * HOUR,
        end=START + 21 * HOUR,
    )
    for hours in (0, 3, 3.5, 20):
        clock_at(START + hours * HOUR)
        services.run_due_bars(timeframe="1h")
    signals = Signal.objects.filter(strategy="consensus", instrument__coin_id="bitcoin")
    assert len({signal.reasons["rule"] for signal in signals}) > 2
    for signal in signals:
        row = 200 + (signal.bar_open_time - START) // HOUR
        stored = (signal.direction, signal.confidence)
        said = history.analysis
        assert stored == (said.direction[row, 0], said.confidence[row, 0])
        if signal.direction:
            assert signal.stop_loss == said.stop_loss[row, 0]
            assert signal.position_size == said.position_size[row, 0]
        back = row - len(history.market.open_time)
        assert signal.reasons == reasons_at(history.panel, back, 0)
        factors = [vote["performance"] for vote in signal.reasons["votes"].values()]
        assert all(factor != 1.0 for factor in factors)


@pytest.mark.django_db
def test_a_second_call_changes_nothing(seeded, clock_at):
    clock_at(START + 20 * HOUR)
    services.run_due_bars(timeframe="1h")
    before = rows()
    assert services.run_due_bars(timeframe="1h") == []
    assert rows() == before


@pytest.mark.django_db(transaction=True)
def test_two_callers_make_one_set_of_signals(seeded, clock_at):
    clock_at(START + 20 * HOUR)
    finished, errors = [], []

    def call():
        try:
            finished.extend(services.run_due_bars(timeframe="1h"))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    services.run_due_bars(timeframe="1h")
    assert not errors
    assert BarRun.objects.filter(state=RunState.DONE).count() == 21
    bars = [run.bar_open_time for run in finished]
    assert len(bars) == len(set(bars))
    per_signal = Signal.objects.values_list("strategy", "instrument", "bar_open_time")
    assert len(per_signal) == len(set(per_signal))
    together = rows()
    Signal.objects.all().delete()
    BarRun.objects.all().delete()
    services.run_due_bars(timeframe="1h")
    assert rows() == together


@pytest.mark.django_db
def test_a_held_lease_stops_the_call_and_a_lapsed_one_is_retaken(seeded, clock_at):
    clock_at(START + 2 * HOUR)
    run = BarRun.objects.create(
        timeframe="1h",
        bar_open_time=START - HOUR,
        started_at=START,
        owner="elsewhere",
        attempt=1,
        leased_until=clock.wall_now() + timedelta(seconds=20),
    )
    assert services.run_due_bars(timeframe="1h") == []
    BarRun.objects.update(leased_until=clock.wall_now() - timedelta(seconds=1))
    assert len(services.run_due_bars(timeframe="1h")) == 3
    run.refresh_from_db()
    assert (run.state, run.attempt) == (RunState.DONE, 2)


@pytest.mark.django_db
def test_who_lost_the_lease_writes_nothing(seeded, clock_at, monkeypatch):
    clock_at(START + 20 * HOUR)
    mean_reversion = STRATEGIES["mean_reversion"]
    analyze = mean_reversion.analyze

    def slow(self, market):
        # Somebody retakes the bar while this call computes.
        BarRun.objects.filter(state=RunState.RUNNING).update(attempt=2, owner="elsewhere")
        return analyze(self, market)

    monkeypatch.setattr(mean_reversion, "analyze", slow)
    assert services.run_due_bars(timeframe="1h") == []
    assert not Signal.objects.exists()
    assert BarRun.objects.get().state == RunState.RUNNING


@pytest.mark.django_db(transaction=True)
def test_a_run_that_takes_longer_than_the_lease_keeps_it(seeded, clock_at, monkeypatch):
    monkeypatch.setattr(leases, "LEASE", timedelta(seconds=0.6))
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    clock_at(START)
    mean_reversion = STRATEGIES["mean_reversion"]
    analyze, stolen = mean_reversion.analyze, []

    def slow(self, market):
        monkeypatch.setattr(mean_reversion, "analyze", analyze)
        time.sleep(0.9)
        stolen.extend(services.run_due_bars(timeframe="1h"))
        return analyze(self, market)

    monkeypatch.setattr(mean_reversion, "analyze", slow)
    [run] = services.run_due_bars(timeframe="1h")
    assert (stolen, run.state, run.attempt) == ([], RunState.DONE, 1)


@pytest.mark.django_db
def test_a_long_host_name_fits_and_still_tells_callers_apart(seeded, clock_at, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "a-host-in-a-long-domain." * 4)
    clock_at(START + HOUR)
    runs = services.run_due_bars(timeframe="1h")
    assert len(runs) == 2
    assert len({run.owner for run in runs}) == 2


# -- Waiting -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_bar_waits_for_its_candles_until_its_patience_ends(seeded, clock_at):
    Ohlcv.objects.filter(instrument__coin_id="ethereum", open_time=START).delete()
    clock_at(START + HOUR + timedelta(seconds=20))
    assert [run.bar_open_time for run in services.run_due_bars(timeframe="1h")] == [START - HOUR]
    clock_at(START + HOUR + timedelta(seconds=40))  # 30 s, widened by 5 wall seconds
    [run] = services.run_due_bars(timeframe="1h")
    assert (run.bar_open_time, run.is_complete) == (START, False)


@pytest.mark.django_db
def test_a_bar_waits_for_the_history_before_it(seeded, clock_at):
    Ohlcv.objects.filter(open_time__lt=START - 100 * HOUR).delete()
    clock_at(START)
    assert services.run_due_bars(timeframe="1h") == []
    clock_at(START + timedelta(seconds=40))
    assert services.run_due_bars(timeframe="1h") == []
    clock_at(START + timedelta(seconds=100))
    [run] = services.run_due_bars(timeframe="1h")
    assert not run.is_complete


@pytest.mark.django_db
def test_a_bar_waits_until_somebody_looked_for_the_newest_release(seeded, clock_at):
    """A value that is out at the bar's close decides the bar, however late it is fetched."""
    newest_release = START - 43 * HOUR  # Saturday, midnight in Chicago
    MacroSeries.objects.update(last_success_at=newest_release - HOUR)
    clock_at(START)
    assert services.run_due_bars(timeframe="1h") == []
    MacroSeries.objects.update(last_success_at=newest_release)
    (run,) = services.run_due_bars(timeframe="1h")
    assert run.is_complete


@pytest.mark.django_db
def test_nobody_waits_for_a_release_longer_than_for_a_candle(seeded, clock_at):
    MacroSeries.objects.update(last_success_at=None)
    clock_at(START)
    assert services.run_due_bars(timeframe="1h") == []
    clock_at(START + timedelta(minutes=2))
    (run,) = services.run_due_bars(timeframe="1h")
    assert not run.is_complete


# -- Strategies that fail ----------------------------------------------------------------------


@pytest.mark.django_db
def test_a_strategy_that_raises_is_left_out(seeded, clock_at, monkeypatch):
    def fail(self, market):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(STRATEGIES["vix_correlation"], "analyze", fail)
    clock_at(START + 20 * HOUR)
    runs = services.run_due_bars(timeframe="1h")
    assert len(runs) == 21
    assert runs[0].failures == {"vix_correlation": "ZeroDivisionError: broken"}
    assert set(Signal.objects.values_list("strategy", flat=True)) == {
        "mean_reversion",
        "consensus",
    }


@pytest.mark.django_db
def test_a_strategy_without_certificate_does_not_run(seeded, clock_at):
    StrategyConfig.objects.filter(name="mean_reversion").update(certificate_hash="old")
    clock_at(START + 20 * HOUR)
    [run, *_] = services.run_due_bars(timeframe="1h")
    assert run.failures == {"mean_reversion": "no certificate for this code and these parameters"}
    assert not Signal.objects.exists()


@pytest.mark.django_db
def test_without_strategies_the_bars_still_run(stored_crash, clock_at):
    clock_at(START)
    [run] = services.run_due_bars(timeframe="1h")
    assert (run.state, run.signal_count) == (RunState.DONE, 0)


@pytest.mark.django_db
def test_latest_signals_are_one_per_strategy_and_instrument(seeded, clock_at):
    clock_at(START + 20 * HOUR)
    services.run_due_bars(timeframe="1h")
    latest = {(signal.strategy, signal.instrument.coin_id): signal for signal in latest_signals()}
    assert len(latest) == latest_signals().count() == 2
    assert latest["consensus", "bitcoin"].signal_type == "FLAT"
