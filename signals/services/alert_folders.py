"""Folders of alert files: what is new in them is judged, and what was seen is known by its rows.

Other programs read these folders too, so a file is only read, unless it is to be archived. Nothing
that a file contains becomes a path, links are not followed, and a pipe is not waited for.
"""

from __future__ import annotations

import heapq
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import DatabaseError, OperationalError, transaction

from collectors import clock
from signals.alertjson import SIZE_LIMIT, AlertRefused, NotWhole, read_alert
from signals.models import AlertFile, AlertFileState, AlertOrigin, AlertVerdict
from signals.outside import KnownFile, files_looked_at
from signals.services.ingest import Arrival, Judgement, ingest_alerts

log = structlog.get_logger(__name__)

SUFFIX = ".json"
CHUNK = 500  # names looked up at once
BATCH = 200  # files in one transaction, and in memory
LOOK_LIMIT = 10_000  # files in one look; what there is more of comes with the next
# A file that is no JSON yet is tried again until it has not changed for so long.
SETTLED = timedelta(seconds=10)
JUDGED = AlertFileState.JUDGED

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class _Version:
    """A file as a look found it; the newest sorts last."""

    modified_ns: int
    name: str
    size: int = field(compare=False)
    mode: int = field(compare=False)
    known: KnownFile | None = field(compare=False, default=None)

    @property
    def label(self) -> str:
        """The name as text that every database takes."""
        return os.fsencode(self.name).decode("utf-8", "backslashreplace")

    @property
    def is_file(self) -> bool:
        """Not a link, a folder or a pipe."""
        return stat.S_ISREG(self.mode)

    @property
    def is_known(self) -> bool:
        """Whether what is known is of this version."""
        row = self.known
        return row is not None and (row.size, row.modified_ns) == (self.size, self.modified_ns)

    @property
    def is_judged(self) -> bool:
        """Whether this version has its judgement."""
        return self.is_known and self.known is not None and self.known.state == JUDGED

    @property
    def is_settled(self) -> bool:
        """Whether it has not changed for so long that nobody is writing it."""
        now = clock.wall_now()
        if now.timestamp() - self.modified_ns / 1e9 >= SETTLED.total_seconds():
            return True
        # The file system's clock may be another.
        is_old = self.known is not None and now - self.known.seen_at >= SETTLED
        return self.is_known and is_old


@dataclass(frozen=True)
class _Found:
    """What a file had to say, why it cannot be read (`problem`), or what it lacks so far."""

    version: _Version
    raw: bytes = b""
    problem: str = ""
    lacks: str = ""

    @property
    def is_news(self) -> bool:
        """Whether a file that lacks something was not known to."""
        return not self.version.is_known


@dataclass
class Tally:
    """What came of a look, in files; `known` ones hold an alert that was judged before."""

    accepted: int = 0
    refused: int = 0
    known: int = 0
    waiting: int = 0
    is_all: bool = True  # false when there is more than one look takes

    @property
    def judged(self) -> int:
        """The files that got a judgement."""
        return self.accepted + self.refused + self.known

    def plus(self, later: Tally) -> Tally:
        """This look and a later one, as one; what waits is what waits at the end."""
        return Tally(
            accepted=self.accepted + later.accepted,
            refused=self.refused + later.refused,
            known=self.known + later.known,
            waiting=later.waiting,
            is_all=later.is_all,
        )


@dataclass(frozen=True, kw_only=True)
class AlertFolder:
    """A folder that is looked at. `archive`: where files go once they are judged, if anywhere."""

    path: Path
    archive: Path | None = None

    @property
    def label(self) -> str:
        """The path as text that every database takes."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")

    @property
    def is_ours(self) -> bool:
        """Whether our own alerts are written there."""
        with suppress(OSError):
            return self.path.samefile(settings.DATA_DIR / "alerts")
        return False


def look_at_folder(*, folder: AlertFolder, is_stopped: Callable[[], bool] = lambda: False) -> Tally:
    """Judge every file that is new, has changed or was not whole; the newest first, so that what
    it says is not held up by older news.

    A file is judged in the transaction that remembers it. Raises OSError when the folder cannot be
    read and DatabaseError when the database is away; what was judged until then stays so.
    """
    tally = Tally()
    directory = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        newest = heapq.nlargest(LOOK_LIMIT + 1, _due(folder, directory))
        tally.is_all = len(newest) <= LOOK_LIMIT
        for batch in _batches(newest[:LOOK_LIMIT], BATCH):
            if is_stopped():
                break
            _judge(folder, directory, batch, tally)
    finally:
        os.close(directory)
    return tally


def forget_gone_files(*, folder: AlertFolder) -> int:
    """Forget the files that are no more in the folder; gives how many."""
    gone = []
    for row in AlertFile.objects.filter(folder=folder.label).iterator(chunk_size=CHUNK):
        if "\\x" not in row.name and not os.path.lexists(folder.path / row.name):
            gone.append(row.pk)
    for part in _batches(gone, CHUNK):
        AlertFile.objects.filter(pk__in=part).delete()
    return len(gone)


def _due(folder: AlertFolder, directory: int) -> Iterator[_Version]:
    """The files of which something is to be done, each with what is known of it."""
    for chunk in _batches(_versions(directory), CHUNK):
        rows = files_looked_at(folder=folder.label, names=[each.label for each in chunk])
        for version in chunk:
            row = rows.get(version.label)
            known = replace(version, known=row)
            if not known.is_judged or (folder.archive is not None and known.is_file):
                yield known


def _versions(directory: int) -> Iterator[_Version]:
    """Whatever is named as an alert file; what begins with a dot is still being written."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.endswith(SUFFIX) or entry.name.startswith("."):
                continue
            with suppress(FileNotFoundError):
                facts = entry.stat(follow_symlinks=False)
                yield _Version(facts.st_mtime_ns, entry.name, facts.st_size, facts.st_mode)


def _judge(folder: AlertFolder, directory: int, batch: Sequence[_Version], tally: Tally) -> None:
    """Judge the batch and remember it in one transaction; one file alone if that cannot be."""
    read = (_find(directory, version) for version in batch if not version.is_judged)
    found = [each for each in read if each is not None]
    try:
        _judge_found(folder, found, tally)
    except OperationalError:
        raise
    except DatabaseError as error:
        if len(batch) > 1:
            for version in batch:
                _judge(folder, directory, [version], tally)
            return
        log.exception("alert_file_not_stored", file=batch[0].label)
        _judge_found(folder, [_Found(batch[0], problem=f"not stored: {error}"[:300])], tally)
    if folder.archive is not None:
        judged = [version for version in batch if version.is_judged]
        judged += [each.version for each in found if not each.lacks]
        for version in judged:
            if version.is_file:
                _move(directory, version, folder.archive)


def _judge_found(folder: AlertFolder, found: Sequence[_Found], tally: Tally) -> None:
    whole = [each for each in found if not each.lacks]
    arrivals = [
        Arrival(
            origin=AlertOrigin.FILE,
            raw=each.raw,
            problem=each.problem,
            folder=folder.label,
            file_name=each.version.label,
            is_from_us=folder.is_ours,
        )
        for each in whole
    ]
    with transaction.atomic():
        judgements = ingest_alerts(arrivals=arrivals) if arrivals else []
        rows = [_row(folder, each, None) for each in found if each.lacks and each.is_news]
        pairs = zip(whole, judgements, strict=True)
        rows += [_row(folder, each, judgement) for each, judgement in pairs]
        AlertFile.objects.bulk_create(
            sorted(rows, key=lambda row: row.name),
            update_conflicts=True,
            unique_fields=["folder", "name"],
            update_fields=["size", "modified_ns", "state", "result", "seen_at"],
        )
    tally.waiting += len(found) - len(whole)
    for judgement in judgements:
        if not judgement.is_new:
            tally.known += 1
        elif judgement.alert.verdict == AlertVerdict.ACCEPTED:
            tally.accepted += 1
        else:
            tally.refused += 1


def _find(directory: int, version: _Version) -> _Found | None:
    """Read a file as it was listed; None when it is gone or has changed meanwhile."""
    if stat.S_ISLNK(version.mode):
        return _Found(version, problem="a symbolic link")
    if not stat.S_ISREG(version.mode):
        return _Found(version, problem="not a regular file")
    if version.size > SIZE_LIMIT:
        return _Found(version, problem=f"larger than {SIZE_LIMIT // 1024} KiB")
    raw: bytes | None = None
    try:
        raw = _read(directory, version)
        if raw is not None:
            read_alert(raw)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        if version.is_settled:
            return _Found(version, problem=reason)
        return _Found(version, lacks=reason)
    except NotWhole as error:
        if not version.is_settled:
            return _Found(version, lacks=str(error))
    except AlertRefused:
        pass
    return None if raw is None else _Found(version, raw=raw)


def _read(directory: int, version: _Version) -> bytes | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(version.name, flags, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as stream:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return None
        raw = stream.read(SIZE_LIMIT + 1)
        after = os.fstat(descriptor)
    listed = (version.size, version.modified_ns)
    return raw if listed == (len(raw), after.st_mtime_ns) else None


def _row(folder: AlertFolder, found: _Found, judgement: Judgement | None) -> AlertFile:
    version = found.version
    is_same = version.known is not None and version.is_known
    if judgement is None:
        state, result = AlertFileState.WAITING, found.lacks
    else:
        alert = judgement.alert
        state, result = AlertFileState.JUDGED, alert.reason or str(alert.verdict)
    return AlertFile(
        folder=folder.label,
        name=version.label,
        size=version.size,
        modified_ns=version.modified_ns,
        state=state,
        result=result[:300],
        seen_at=version.known.seen_at if version.known and is_same else clock.wall_now(),
    )


def _move(directory: int, version: _Version, archive: Path) -> None:
    """Put a judged file into the archive, never over another; not one that has changed since."""
    with suppress(FileNotFoundError):
        facts = os.stat(version.name, dir_fd=directory, follow_symlinks=False)
        if (facts.st_size, facts.st_mtime_ns) == (version.size, version.modified_ns):
            _link_and_remove(directory, version, archive)


def _link_and_remove(directory: int, version: _Version, archive: Path) -> None:
    stem = version.name.removesuffix(SUFFIX)
    for number in itertools.count(1):
        name = version.name if number == 1 else f"{stem}_{number}{SUFFIX}"
        try:
            os.link(version.name, archive / name, src_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            continue
        except OSError as error:
            log.warning("alert_file_not_archived", file=version.label, reason=error.strerror)
            return
        os.unlink(version.name, dir_fd=directory)
        return


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
