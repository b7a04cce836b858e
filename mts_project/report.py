"""The report of a demo: that of its account, with what the demo has shown in front."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collectors.formats.files import write_new_text
from mts_project.pipeline import ACCOUNT
from mts_project.summary import Summary
from trading.models import Account
from trading.reports.content import content_text, make_report
from trading.reports.page import render_page
from trading.reports.tables import Table, pairs


def write_report(summary: Summary, *, folder: Path) -> Path:
    """Write `demo_{time}.html` and `.json` into `folder`; returns the HTML file's path.

    Each is written whole or not at all, and never over another: `_2`, `_3` where a name is taken.
    """
    report = make_report(account_id=Account.objects.get(name=ACCOUNT).pk)
    content = report.content()
    content["execution_summary"] = {**content["execution_summary"], **_shown(summary)}
    page = render_page(report, title="MTS demo", tables=_tables(summary))
    name = f"demo_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    write_new_text(folder / f"{name}.json", content_text(content))
    return write_new_text(folder / f"{name}.html", page.html)


def _shown(summary: Summary) -> dict[str, Any]:
    return {
        "market_start": summary.market_start.isoformat(),
        "market_end": summary.market_end.isoformat(),
        "market_hours": round(summary.market_hours, 2),
        "instruments": summary.instruments,
        "stages": summary.stages,
        "seconds_to_first": summary.arrivals,
        "ledgers": {
            ledger.account: {
                "cash": str(ledger.cash),
                "entries": str(ledger.entries),
                "is_balanced": ledger.is_balanced,
            }
            for ledger in summary.ledgers
        },
    }


def _tables(summary: Summary) -> list[Table]:
    speeds = {
        f"first {stage}": "never" if seconds is None else f"{seconds:.1f} s"
        for stage, seconds in summary.arrivals.items()
    }
    ledgers = {
        f"ledger of {ledger.account}": "balances" if ledger.is_balanced else "does not balance"
        for ledger in summary.ledgers
    }
    start, end = summary.market_start, summary.market_end
    facts = {
        "market time": f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}",
        "market hours": f"{summary.market_hours:.1f}",
        "instruments with candles": summary.instruments,
        **speeds,
        **ledgers,
    }
    counts = {stage: f"{count:,}" for stage, count in summary.stages.items()}
    return [pairs("Rows per stage", counts), pairs("The run", facts)]
