"""Reports as files in `MTS_DATA_DIR/reports/`: on demand, and of every day."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import structlog
from django.conf import settings

from collectors import clock
from collectors.formats.files import write_new_text
from trading.models import Account
from trading.reports.content import Report, content_text, make_report
from trading.reports.page import render_page

log = structlog.get_logger(__name__)

UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
KEPT_DAYS = 31  # of daily reports, which hold some megabytes each and can be made again


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """A report and its two files."""

    report: Report
    html: Path
    json: Path


def report_folder() -> Path:
    """Where reports lie."""
    folder: Path = settings.DATA_DIR / "reports"
    return folder


def write_report(
    *, account_id: int, start: datetime | None = None, end: datetime | None = None, stem: str = ""
) -> WrittenReport:
    """Make the report of a period (the account's life by default) and write JSON and HTML.

    The files are `{stem}.json` and `.html`, by default `report_{account}_{end}`. Raises
    Account.DoesNotExist, ValueError for a period that ends before it begins, OSError.
    """
    report = make_report(account_id=account_id, start=start, end=end)
    name = UNSAFE.sub("-", report.name)
    stem = stem or f"report_{account_id}_{name}_{report.record.end:%Y%m%d_%H%M%S}"
    page = render_page(report)
    folder = report_folder()
    return WrittenReport(
        report=report,
        json=write_new_text(folder / f"{stem}.json", content_text(report.content())),
        html=write_new_text(folder / f"{stem}.html", page.html),
    )


def write_daily_reports() -> Sequence[Path]:
    """Report every active account from its beginning to the last midnight, once a market day.

    What is there already is not written again. Daily reports older than 31 days are removed. One
    account that fails holds up no other.
    """
    midnight = datetime.combine(clock.now().astimezone(UTC).date(), time(), tzinfo=UTC)
    written = []
    for account in Account.objects.filter(is_active=True, created_at__lt=midnight):
        stem = f"daily_{account.pk}_{midnight - timedelta(days=1):%Y%m%d}"
        if (report_folder() / f"{stem}.html").exists():
            continue
        try:
            files = write_report(account_id=account.pk, end=midnight, stem=stem)
        except Exception:
            log.exception("report_failed", account=account.pk)
            continue
        written += [files.json, files.html]
    _forget_before(midnight - timedelta(days=KEPT_DAYS))
    return written


def _forget_before(midnight: datetime) -> None:
    oldest = f"{midnight:%Y%m%d}"
    for path in report_folder().glob("daily_*_*.*"):
        found = re.fullmatch(r"daily_\d+_(\d{8})(_\d+)?\.(html|json)", path.name)
        if found and found[1] < oldest:
            path.unlink(missing_ok=True)
