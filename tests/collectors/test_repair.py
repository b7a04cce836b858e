"""Repair against a world of its own process: what was lost comes back as it was, from the best
source, and an outage leaves no trace but its record."""

import random
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from collectors import clock, tasks
from collectors.models import CandleHole, CandleReplacement, Instrument, Ohlcv
from tests.collectors.worlds import SandboxWorld, running_world

FAST = 7200.0
COLUMNS = (
    "instrument__coin_id", "timeframe", "open_time", "open", "high", "low", "close", "volume",
    "source", "is_sampled",
)  # fmt: skip


@pytest.fixture
def calm(settings: Any) -> Iterator[SandboxWorld]:
    """A world at the speed of the wall clock."""
    with running_world(speed=1.0) as world, world.entered(settings):
        yield world


@pytest.fixture
def fast(settings: Any) -> Iterator[SandboxWorld]:
    """A world in which two hours pass in a second."""
    with running_world(speed=FAST) as world, world.entered(settings):
        yield world


def table(*, until: datetime | None = None) -> list[tuple[Any, ...]]:
    rows = Ohlcv.objects.order_by("instrument", "timeframe", "open_time").values_list(*COLUMNS)
    return list(rows if until is None else rows.filter(open_time__lt=until))


@pytest.mark.long(15)
def test_lost_candles_come_back_as_they_were(bitcoin: Instrument, calm: SandboxWorld) -> None:
    tasks.backfill_all()
    before = table()
    assert len(before) > 40_000
    assert {row[0] for row in before} >= {"bitcoin", "solana", "tether", "chainlink"}
    keys = list(Ohlcv.objects.order_by("pk").values_list("pk", flat=True))
    lost = random.Random(5).sample(keys, len(keys) // 20)
    Ohlcv.objects.filter(pk__in=lost).delete()
    asked = sum(calm.calls().values())
    assert tasks.backfill_all() == len(lost)
    assert table() == before
    assert not CandleHole.objects.exists()
    assert sum(calm.calls().values()) - asked < 120
    asked = sum(calm.calls().values())
    tasks.backfill_all()
    assert sum(calm.calls().values()) == asked


def collect_for(seconds: float) -> None:
    """Tick as beat does, only more often."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tasks.collect_tier("high_frequency")
        tasks.collect_tier("hourly")
        time.sleep(0.25)


@pytest.mark.long(20)
def test_an_outage_of_six_hours_leaves_the_table_as_if_it_had_not_been(
    bitcoin: Instrument, fast: SandboxWorld
) -> None:
    wanted = ["bitcoin", "solana"]
    Instrument.objects.exclude(coin_id__in=wanted).update(is_enabled=False)
    tasks.backfill_all()
    began = clock.now()
    fast.change_faults({"binance": {"outage": True}})
    collect_for(6 * 3600 / FAST + 5)  # bars within the widened patience are the best source's
    fast.change_faults({"binance": {"outage": False}})
    over = clock.now()
    fallen_back = Ohlcv.objects.filter(source="bybit", open_time__gte=began)
    assert fallen_back.count() > 2 * 6
    collect_for(6)  # until none of them may still come by itself
    tasks.backfill_all()
    assert not Ohlcv.objects.exclude(source="binance").filter(open_time__lt=over).exists()
    assert CandleReplacement.objects.filter(old_source="bybit", new_source="binance").exists()
    assert not CandleHole.objects.filter(start__lt=over).exists()
    repaired = table(until=over)
    Ohlcv.objects.all().delete()
    tasks.backfill_all()
    assert table(until=over) == repaired
