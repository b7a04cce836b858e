"""The nightly archive: one Parquet file per kind of row and market day, below MTS_DATA_DIR.

A file is `archive/{kind}/{YYYY}/{kind}_{YYYY-MM-DD}.parquet` and says in its metadata what it was
made of. Every run compares the days of the tables with their newest files and writes what differs,
so that nothing is remembered: days that passed while nobody archived, and late rows of any day, are
found alike. A day that changed is written again, whole, as `_2`, `_3`; what a day held is the union
of its files, the row of a later file in place of the same row of an earlier one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db.models import Count, Max, Sum

from collectors.formats import FormatError, parquet
from collectors.formats.files import numbered_names, remove_abandoned_parts, write_new_file
from collectors.marketdata import EPOCH, to_ms
from collectors.models import RetentionPolicy
from collectors.selectors.expressions import EpochSeconds
from mts_project.stored_kinds import KINDS_BY_NAME, StoredKind

log = structlog.get_logger(__name__)

DAY_S = 86_400


@dataclass(frozen=True)
class DayFigures:
    """What tells whether a day's rows are those of a file: how many there are, the newest id, the
    newest change (ms), and the sum of all changes' moments (s), in which an old one shows, too."""

    rows: int
    newest_id: int
    changed_ms: int
    changed_sum: int

    def exceeds(self, written: DayFigures) -> bool:
        """Whether there is a row that the file does not have. Fewer rows alone say nothing: they
        were pruned, or belong to a later day by now."""
        return (
            self.rows > written.rows
            or self.newest_id > written.newest_id
            or self.changed_ms > written.changed_ms
            or (self.rows == written.rows and self.changed_sum != written.changed_sum)
        )


def archive_folder() -> Path:
    """Where the archive is."""
    folder: Path = settings.DATA_DIR / "archive"
    return folder


def archive_days(*, through: date) -> dict[str, int]:
    """Write what the archive lacks of the market days up to `through`, of every kind that is
    archived; gives the number of files by kind.

    One process at a time: another one that comes meanwhile does nothing. A kind that cannot be
    written is logged, and the others go on.
    """
    written: dict[str, int] = {}
    with archive_lock() as is_ours:
        if not is_ours:
            return written
        remove_abandoned_parts(archive_folder())
        for policy in RetentionPolicy.objects.filter(is_archived=True):
            kind = KINDS_BY_NAME.get(policy.kind)
            if kind is None:
                continue
            try:
                files = written[kind.name] = archive_kind(kind=kind, through=through)
            except (OSError, FormatError) as problem:
                log.error("not_archived", kind=kind.name, problem=str(problem))
                continue
            if files:
                log.info("archived", kind=kind.name, files=files, through=through.isoformat())
            if policy.archived_through is None or policy.archived_through < through:
                RetentionPolicy.objects.filter(pk=policy.pk).update(archived_through=through)
    return written


def archive_kind(*, kind: StoredKind, through: date) -> int:
    """Write the files that one kind lacks up to a day; gives how many. Raises OSError, and
    FormatError when a file of the archive cannot be read."""
    written = 0
    for day, figures in day_figures(kind=kind, through=through).items():
        path = day_path(kind, day)
        if figures.exceeds(_written_figures(path)):
            _write_day(kind, day, path)
            written += 1
    return written


def day_figures(*, kind: StoredKind, through: date) -> dict[date, DayFigures]:
    """The figures of every market day up to `through` that has rows, in order."""
    rows = (
        kind.between(None, midnight(through + timedelta(days=1)))
        .annotate(day=EpochSeconds(kind.time) / DAY_S)
        .values("day")
        .annotate(**_figures(kind))
        .order_by("day")
    )
    return {EPOCH.date() + timedelta(days=row.pop("day")): _as_figures(row) for row in rows}


def day_path(kind: StoredKind, day: date) -> Path:
    """The first file of a day."""
    return archive_folder() / kind.name / f"{day:%Y}" / f"{kind.name}_{day:%Y-%m-%d}.parquet"


def midnight(day: date) -> datetime:
    """The moment at which a market day begins."""
    return datetime.combine(day, time(), tzinfo=UTC)


@contextlib.contextmanager
def archive_lock() -> Iterator[bool]:
    """Whether nobody else works on the archive; a lock of the system, gone with its process."""
    folder = archive_folder()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _figures(kind: StoredKind) -> dict[str, Any]:
    """What is asked of the database for the figures of rows."""
    return {
        "rows": Count("pk"),
        "newest_id": Max("pk"),
        "changed": Max(kind.changed),
        "changed_sum": Sum(EpochSeconds(kind.changed)),
    }


def _as_figures(row: Mapping[str, Any]) -> DayFigures:
    return DayFigures(row["rows"], row["newest_id"], to_ms(row["changed"]), int(row["changed_sum"]))


def _written_figures(path: Path) -> DayFigures:
    """The figures of a day's newest file; of no row without one."""
    files = numbered_names(path)
    if not files:
        return DayFigures(0, 0, 0, 0)
    said = parquet.read_metadata(files[-1])
    try:
        return DayFigures(*(int(said[field.name]) for field in fields(DayFigures)))
    except (KeyError, ValueError):
        raise FormatError(f"{files[-1]}: is no file of the archive") from None


def _write_day(kind: StoredKind, day: date, path: Path) -> None:
    """Write one day. Its figures are taken before its rows: what comes between is in the file and
    not in the figures, which writes the day once more and loses nothing."""
    rows = kind.between(midnight(day), midnight(day + timedelta(days=1)))
    seen = rows.aggregate(**_figures(kind))
    if not seen["rows"]:
        return
    said = {name: str(value) for name, value in asdict(_as_figures(seen)).items()}
    metadata = {"kind": kind.name, "day": day.isoformat(), **said}
    columns = kind.file_columns()

    def fill(part: Path) -> None:
        parquet.write_rows(part, columns, kind.file_rows(rows), metadata=metadata)

    write_new_file(path, fill)
