"""The archive has every day once it is over, late rows included; what it has may be forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from collectors import clock
from collectors.formats import parquet
from collectors.formats.schema import CANDLE_COLUMNS
from collectors.marketdata import Candle, candle_key
from collectors.models import (
    CandleHole,
    CandleReplacement,
    CollectionState,
    HoleLabel,
    Instrument,
    MacroObservation,
    MacroSeries,
    Ohlcv,
    PriceSample,
    ProviderCallMinute,
    RetentionPolicy,
    Series,
)
from collectors.selectors import lacking_bars
from collectors.services import store_candles
from mts_project.archive import archive_days, archive_folder, archive_lock
from mts_project.retention import prune_rows, seed_retention
from mts_project.stored_kinds import STORED_KINDS
from mts_project.tasks import archive_days as archive_task
from mts_project.tasks import prune_rows as prune_task
from signals.models import OutsideAlert, Signal
from tests.factories import make_instrument, make_signal, make_user
from trading.models import RefusedRequest

pytestmark = pytest.mark.django_db

NOW = datetime(2025, 3, 10, 4, 30, tzinfo=UTC)
TODAY = NOW.date()
YESTERDAY = date(2025, 3, 9)
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def installation(tmp_path: Path, settings: Any) -> Iterator[None]:
    """An empty data folder, the seeded policies, and the market clock at NOW."""
    settings.DATA_DIR = tmp_path
    seed_retention()
    before = clock.current()
    clock.configure(clock.MarketClock(start=NOW, anchor=clock.wall_now(), speed=1.0))
    yield
    clock.configure(before)


def store(days: range, *, instrument: Instrument | None = None, **others: Any) -> None:
    """Hourly candles of the days before NOW's, counted backwards."""
    midnight = datetime.combine(TODAY, datetime.min.time(), tzinfo=UTC)
    prices: dict[str, Any] = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 3.0}
    candles = [
        Candle(
            open_time=midnight - timedelta(days=day) + timedelta(hours=hour),
            source="binance",
            **prices | others,
        )
        for day in reversed(days)
        for hour in range(24)
    ]
    store_candles(instrument=instrument or make_instrument(), timeframe="1h", candles=candles)


def files(kind: str = "candles") -> list[str]:
    return sorted(path.name for path in (archive_folder() / kind).rglob("*.parquet"))


def rows_of(kind: str, name: str) -> int:
    import pyarrow.parquet

    (path,) = (archive_folder() / kind).rglob(name)
    return int(pyarrow.parquet.read_metadata(path).num_rows)


def policy(kind: str = "candles", **changes: Any) -> RetentionPolicy:
    RetentionPolicy.objects.filter(kind=kind).update(**changes)
    return RetentionPolicy.objects.get(kind=kind)


def test_each_day_has_a_file_once_it_is_over() -> None:
    store(range(1, 4))
    assert archive_days(through=YESTERDAY)["candles"] == 3
    assert files() == [f"candles_2025-03-0{day}.parquet" for day in (7, 8, 9)]
    path = archive_folder() / "candles" / "2025" / "candles_2025-03-09.parquet"
    rows = [row for _, row in parquet.read_rows(path, CANDLE_COLUMNS, defaults={}, aliases={})]
    assert len(rows) == 24
    assert rows[0][:8] == (
        "bitcoin", "1h", datetime(2025, 3, 9, tzinfo=UTC), 1.0, 2.0, 0.5, 1.5, 3.0,
    )  # fmt: skip
    assert policy().archived_through == YESTERDAY


def test_a_file_of_the_archive_can_be_imported() -> None:
    store(range(1, 2))
    before = list(Ohlcv.objects.order_by("open_time").values_list("open_time", "received_at"))
    archive_days(through=YESTERDAY)
    Ohlcv.objects.all().delete()
    path = archive_folder() / "candles" / "2025" / "candles_2025-03-09.parquet"
    call_command("import_candles", str(path), stdout=StringIO(), stderr=StringIO())
    after = list(Ohlcv.objects.order_by("open_time").values_list("open_time", "received_at"))
    assert after == before
    assert len(after) == 24


def test_nothing_is_written_twice() -> None:
    store(range(1, 4))
    archive_days(through=YESTERDAY)
    before = files()
    assert archive_days(through=YESTERDAY)["candles"] == 0
    assert files() == before


def test_days_that_passed_while_nobody_archived_are_caught_up() -> None:
    store(range(5, 9))
    archive_days(through=date(2025, 3, 5))
    store(range(1, 5))
    assert archive_days(through=YESTERDAY)["candles"] == 4
    assert len(files()) == 8
    assert policy().archived_through == YESTERDAY


def test_late_and_corrected_rows_of_an_archived_day_write_it_again() -> None:
    store(range(1, 6))
    archive_days(through=YESTERDAY)
    store(range(5, 6), instrument=make_instrument("solana"))
    store(range(3, 4), close=1.75)
    assert archive_days(through=YESTERDAY)["candles"] == 2
    assert "candles_2025-03-05_2.parquet" in files()
    assert "candles_2025-03-07_2.parquet" in files()
    assert len(files()) == 7
    assert rows_of("candles", "candles_2025-03-05.parquet") == 24
    assert rows_of("candles", "candles_2025-03-05_2.parquet") == 48
    assert archive_days(through=YESTERDAY)["candles"] == 0


def test_a_row_replaced_by_one_received_long_ago_is_seen() -> None:
    store(range(1, 2))
    archive_days(through=YESTERDAY)
    row = Ohlcv.objects.earliest("open_time")
    Ohlcv.objects.filter(pk=row.pk).update(close=1.75, received_at=NOW - timedelta(days=300))
    assert archive_days(through=YESTERDAY)["candles"] == 1
    assert archive_days(through=YESTERDAY)["candles"] == 0


def test_every_kind_of_row_is_written_with_its_columns() -> None:
    store(range(2, 3))
    store(range(2, 3), close=1.75)
    moment = NOW - timedelta(days=2)
    bitcoin = make_instrument()
    PriceSample.objects.create(
        instrument=bitcoin, at=moment, price=2.5, source="coingecko", received_at=NOW
    )
    series = MacroSeries.objects.create(series_id="VIXCLS", name="VIX", units="", frequency="")
    MacroObservation.objects.create(
        series=series,
        date=moment.date(),
        value=17.5,
        realtime_start=moment.date(),
        released_at=moment,
        received_at=NOW,
    )
    bitcoin.funding.create(
        exchange="binance", symbol="BTCUSDT", funding_time=moment, rate=1e-4, received_at=NOW
    )
    bitcoin.book_samples.create(
        exchange="binance",
        symbol="BTCUSDT",
        at=moment,
        best_bid=1.0,
        bid_quantity=2.0,
        best_ask=1.5,
        ask_quantity=3.0,
        spread_bps=4000.0,
        received_at=NOW,
    )
    book = {"exchange": "binance", "symbol": "BTCUSDT"}
    bitcoin.book_hours.create(
        **book,
        **dict.fromkeys(("synced_s", "withheld_s", "depth_10_bps_s", "depth_50_bps_s"), 1.5),
        **dict.fromkeys(("messages", "gaps", "resyncs"), 1),
        hour=moment,
        changed_at=NOW,
    )
    bitcoin.book_downtimes.create(
        **book, at=moment, began_at=moment, reason="a gap", changed_at=NOW
    )
    make_signal(bar=moment, reasons={"why": ["x"]})
    OutsideAlert.objects.create(
        key="id:1", verdict="refused", reason="empty", origin="api", received_at=moment
    )
    RefusedRequest.objects.create(at=moment, address="/x/", by="ada", reason="empty")
    bitcoin.findings.create(
        verdict="rejected",
        reason="high below low",
        subject=candle_key("bitcoin", "1h"),
        at=moment,
        source="binance",
        values={"high": 1},
        first_seen_at=moment,
        last_seen_at=moment,
    )
    ProviderCallMinute.objects.create(provider="fred", endpoint="/x", minute=moment, calls=3)
    written = archive_days(through=YESTERDAY)
    assert written == {kind.name: 1 for kind in STORED_KINDS}
    import pyarrow.parquet

    for kind in STORED_KINDS:
        (path,) = (archive_folder() / kind.name).rglob("*.parquet")
        table = pyarrow.parquet.read_table(path)
        names = [column.name for column in kind.file_columns()]
        assert table.column_names == names
        assert len(set(names)) == len(kind.columns.split())
        assert table.num_rows >= 1
    (path,) = (archive_folder() / "signals").rglob("*.parquet")
    row = pyarrow.parquet.read_table(path).to_pylist()[0]
    assert (row["instrument"], row["reasons"], row["direction"]) == (
        "bitcoin", '{"why": ["x"]}', 1,
    )  # fmt: skip


def test_a_kind_that_is_not_archived_is_left_out() -> None:
    store(range(1, 3))
    policy(is_archived=False)
    assert "candles" not in archive_days(through=YESTERDAY)
    assert files() == []


def test_a_file_that_is_no_archive_stops_its_kind_alone() -> None:
    store(range(1, 3))
    PriceSample.objects.create(
        instrument=make_instrument(),
        at=NOW - timedelta(days=1),
        price=1.0,
        source="coingecko",
        received_at=NOW,
    )
    folder = archive_folder() / "candles" / "2025"
    folder.mkdir(parents=True)
    (folder / "candles_2025-03-08.parquet").write_text("not ours")
    written = archive_days(through=YESTERDAY)
    assert "candles" not in written
    assert written["price_samples"] == 1
    assert policy().archived_through is None


def test_two_archivists_do_not_write_the_same_day() -> None:
    store(range(1, 3))
    with archive_lock() as is_ours:
        assert is_ours
        assert archive_days(through=YESTERDAY) == {}
        assert prune_rows(now=NOW) == {}
    assert archive_days(through=YESTERDAY)["candles"] == 2


KILLED = """
import itertools, os, sys
from pathlib import Path
import django
django.setup()
from datetime import UTC, datetime
from collectors.formats.tables import write_table
moment = datetime(2025, 1, 1, tzinfo=UTC)
row = ("bitcoin", "1h", moment, 1.0, 2.0, 0.5, 1.5, None, "x", False, moment)
print("writing", flush=True)
write_table(Path(sys.argv[1]), "candles", itertools.repeat(row))
"""


@pytest.mark.parametrize("name", ["c.csv", "c.csv.gz", "c.parquet"])
def test_a_killed_writer_leaves_no_half_file(tmp_path: Path, name: str) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "mts_project.settings"}
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / name)],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"writing\n"
    deadline = time.monotonic() + 30
    while not any(path.stat().st_size > 1000 for path in tmp_path.glob(".*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (tmp_path / name).exists()
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == [".part"]


# -- Forgetting ----------------------------------------------------------------------------------


def test_only_what_is_archived_is_forgotten() -> None:
    store(range(1, 11))
    policy(keep_days=3)
    assert prune_rows(now=NOW)["candles"] == 0
    archive_days(through=date(2025, 3, 4))
    assert prune_rows(now=NOW)["candles"] == 5 * 24
    assert Ohlcv.objects.earliest("open_time").open_time == datetime(2025, 3, 5, tzinfo=UTC)
    archive_days(through=YESTERDAY)
    assert prune_rows(now=NOW)["candles"] == 2 * 24
    assert Ohlcv.objects.earliest("open_time").open_time == datetime(2025, 3, 7, tzinfo=UTC)
    assert policy().pruned_before == datetime(2025, 3, 7, tzinfo=UTC)
    assert prune_rows(now=NOW)["candles"] == 0


def test_a_late_row_is_archived_before_it_is_forgotten() -> None:
    store(range(1, 11))
    archive_days(through=YESTERDAY)
    store(range(8, 9), instrument=make_instrument("solana"))
    policy(keep_days=3)
    assert prune_rows(now=NOW)["candles"] == 7 * 24 + 24
    assert "candles_2025-03-02_2.parquet" in files()
    assert rows_of("candles", "candles_2025-03-02_2.parquet") == 48


def test_a_row_of_a_forgotten_day_is_added_to_its_files() -> None:
    store(range(1, 11))
    archive_days(through=YESTERDAY)
    policy(keep_days=3)
    prune_rows(now=NOW)
    assert archive_days(through=YESTERDAY)["candles"] == 0
    store(range(8, 9), instrument=make_instrument("solana"))
    assert archive_days(through=YESTERDAY)["candles"] == 1
    assert rows_of("candles", "candles_2025-03-02.parquet") == 24
    assert rows_of("candles", "candles_2025-03-02_2.parquet") == 24


def test_rows_that_are_not_archived_are_forgotten_by_age_alone() -> None:
    for days in (399, 400, 401, 402):
        minute = NOW - timedelta(days=days)
        ProviderCallMinute.objects.create(provider="fred", endpoint="/x", minute=minute)
    policy("provider_calls", is_archived=False)
    assert prune_rows(now=NOW)["provider_calls"] == 2
    assert ProviderCallMinute.objects.count() == 2


def test_what_others_refer_to_is_kept_whatever_a_policy_says() -> None:
    make_signal(bar=NOW - timedelta(days=900))
    policy("signals", keep_days=1)
    archive_days(through=YESTERDAY)
    assert "signals" not in prune_rows(now=NOW)
    assert Signal.objects.count() == 1


def test_forgotten_candles_change_the_series_and_are_not_asked_for_again() -> None:
    bitcoin = make_instrument()
    store(range(1, 11))
    store(range(9, 10), close=1.75)
    assert CandleReplacement.objects.count() == 24
    store(range(1, 11), instrument=make_instrument("solana"))
    for start, end in [("2025-03-01T03:00", "2025-03-01T05:00"), ("2025-03-06", "2025-03-08")]:
        CandleHole.objects.create(
            instrument=bitcoin,
            timeframe="1h",
            start=datetime.fromisoformat(start).replace(tzinfo=UTC),
            end=datetime.fromisoformat(end).replace(tzinfo=UTC),
            label=HoleLabel.NO_TRADE,
            seen_at=NOW,
        )
    archive_days(through=YESTERDAY)
    policy(keep_days=3)
    before = Series.objects.get(key=candle_key("bitcoin", "1h"))
    assert prune_rows(now=NOW)["candles"] == 2 * 7 * 24
    after = Series.objects.get(key=candle_key("bitcoin", "1h"))
    assert after.revision == after.rewritten_revision == before.revision + 1
    state = CollectionState.objects.get(instrument=bitcoin, timeframe="1h")
    kept_from = datetime(2025, 3, 7, tzinfo=UTC)
    assert state.history_from == kept_from
    hole = CandleHole.objects.get()
    assert (hole.start, hole.end) == (kept_from, datetime(2025, 3, 8, tzinfo=UTC))
    lacking = lacking_bars(
        instrument=bitcoin,
        timeframe="1h",
        start=state.history_from,
        end=NOW.replace(hour=0, minute=0),
    )
    assert len(lacking) == 0
    assert not CandleReplacement.objects.exists()
    prune_rows(now=NOW)
    assert Series.objects.get(key=candle_key("bitcoin", "1h")).revision == after.revision


def test_the_tasks_archive_up_to_yesterday_and_forget() -> None:
    store(range(1, 11))
    policy(keep_days=3)
    assert archive_task() == 10
    assert prune_task() == 7 * 24
    assert files()[-1] == "candles_2025-03-09.parquet"


def test_an_operator_changes_a_policy_and_nothing_is_forgotten_by_mistake(client: Client) -> None:
    client.force_login(make_user("root", role=None, is_staff=True, is_superuser=True))
    address = f"/admin/collectors/retentionpolicy/{policy().pk}/change/"
    assert ">ever<" in "".join(
        client.get("/admin/collectors/retentionpolicy/").content.decode().split()
    )
    assert client.post(address, {"keep_days": "0", "is_archived": "on"}).status_code == 200
    assert policy().keep_days is None
    assert client.post(address, {"keep_days": "800", "is_archived": "on"}).status_code == 302
    assert policy().keep_days == 800
    assert "800 market days" in client.get("/admin/collectors/retentionpolicy/").content.decode()
    signals = policy("signals")
    address = f"/admin/collectors/retentionpolicy/{signals.pk}/change/"
    answer = client.post(address, {"keep_days": "9", "is_archived": "on"})
    assert "kept for ever" in answer.content.decode()
    assert policy("signals").keep_days is None


def test_seeding_again_keeps_what_an_operator_changed() -> None:
    assert RetentionPolicy.objects.count() == len(STORED_KINDS)
    assert policy("price_samples").keep_days == 400
    policy("price_samples", keep_days=30)
    assert seed_retention() == 0
    assert policy("price_samples").keep_days == 30
