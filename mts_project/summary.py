"""What a demo has shown: rows per stage, how fast they came, and whether the books agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rich.table import Table

from mts_project import pipeline


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The end of a demo. It is a success when nothing is empty and every ledger balances."""

    stages: dict[str, int]
    arrivals: dict[str, float | None]  # seconds from the start of `up` to the first row
    instruments: int
    market_start: datetime
    market_end: datetime
    ledgers: tuple[pipeline.LedgerCheck, ...]

    @property
    def market_hours(self) -> float:
        """Market hours from the start of the clock to the end."""
        return (self.market_end - self.market_start).total_seconds() / 3600

    @property
    def failures(self) -> list[str]:
        """What is wrong, one line each: stages without a row, accounts whose books disagree."""
        empty = [f"no rows: {stage}" for stage, count in self.stages.items() if count == 0]
        broken = [
            f"the ledger of account {ledger.account} does not balance: {mismatch}"
            for ledger in self.ledgers
            for mismatch in ledger.mismatches
        ]
        return [*empty, *broken]


def take_summary(
    *, began_at: datetime, market_start: datetime, market_end: datetime, live_quotes: int
) -> Summary:
    """Read the database once the processes are down. `began_at` is wall time."""
    return Summary(
        stages=pipeline.stage_counts(live_quotes=live_quotes),
        arrivals={
            arrival.stage: None if arrival.at is None else (arrival.at - began_at).total_seconds()
            for arrival in pipeline.first_arrivals()
        },
        instruments=pipeline.instruments_with_candles(),
        market_start=market_start,
        market_end=market_end,
        ledgers=tuple(pipeline.ledger_checks()),
    )


def summary_table(summary: Summary) -> Table:
    """The summary for a terminal."""
    table = Table(title="what the demo has shown", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    for stage, count in summary.stages.items():
        table.add_row(stage, f"{count:,}")
    table.add_section()
    table.add_row("market hours", f"{summary.market_hours:.1f}")
    table.add_row("instruments with candles", f"{summary.instruments}")
    for stage, seconds in summary.arrivals.items():
        value = "never" if seconds is None else f"{seconds:.1f} s"
        table.add_row(f"from start to first {stage}", value)
    table.add_section()
    for ledger in summary.ledgers:
        state = "balances" if ledger.is_balanced else "DOES NOT BALANCE"
        table.add_row(f"ledger of {ledger.account}", f"{state}: {ledger.cash:.8f}")
    return table
