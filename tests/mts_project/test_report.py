"""The summary of a demo, its files, and what makes it a failure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from rich.console import Console

from mts_project.liveview import Screen, plain_line
from mts_project.pipeline import LedgerCheck, progress
from mts_project.report import write_report
from mts_project.summary import Summary, summary_table, take_summary

START = datetime(2025, 3, 3, tzinfo=UTC)


def summary_of(*, fills: int = 2, is_balanced: bool = True) -> Summary:
    ledger = LedgerCheck(
        account="paper",
        cash=Decimal("10"),
        entries=Decimal("10"),
        mismatches=() if is_balanced else ("cash is not the sum",),
    )
    return Summary(
        stages={"candles": 5, "fills": fills},
        arrivals={"candle": 1.25, "fill": None},
        instruments=8,
        market_start=START,
        market_end=START + timedelta(hours=40),
        ledgers=(ledger,),
    )


def test_an_empty_stage_and_a_broken_ledger_are_named() -> None:
    assert summary_of().failures == []
    assert summary_of(fills=0).failures == ["no rows: fills"]
    (failure,) = summary_of(is_balanced=False).failures
    assert "ledger of account paper" in failure


def test_the_table_says_what_was_seen() -> None:
    stream = StringIO()
    Console(width=80, file=stream).print(summary_table(summary_of()))
    text = stream.getvalue()
    for word in ("market hours", "40.0", "1.2 s", "never", "balances"):
        assert word in text


@pytest.mark.django_db
def test_a_report_never_replaces_another(tmp_path: Path) -> None:
    call_command("seed")
    paths = {write_report(summary_of(), folder=tmp_path) for _ in range(3)}
    assert len(paths) == 3
    for path in paths:
        report = json.loads(path.with_suffix(".json").read_text())
        assert set(report) == {"execution_summary", "performance_metrics", "trades"}
        assert report["execution_summary"]["stages"] == {"candles": 5, "fills": 2}
        page = path.read_text()
        for words in ("No closed trade", "Rows per stage", "first candle", "ledger of paper"):
            assert words in page
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.django_db
def test_an_empty_installation_counts_nothing() -> None:
    summary = take_summary(began_at=START, market_start=START, market_end=START, live_quotes=0)
    assert set(summary.stages.values()) == {0}
    assert set(summary.arrivals.values()) == {None}
    assert len(summary.failures) == len(summary.stages)


@pytest.mark.django_db
def test_without_a_terminal_the_pipeline_is_one_plain_line(tmp_path: Path) -> None:
    seen = progress()
    assert "candles 0" in plain_line(seen)
    with (tmp_path / "out").open("w") as stream:
        with Screen(Console(file=stream, width=200), live_every_s=1, plain_every_s=5) as screen:
            assert screen.is_due()
            screen.show(seen, [])
            assert not screen.is_due()
    lines = (tmp_path / "out").read_text().splitlines()
    assert len(lines) == 1
