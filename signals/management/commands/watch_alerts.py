"""`manage.py watch_alerts`: takes the alert files that other programs write as signals."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection

from signals.services import AlertFolder, Tally, forget_gone_files, look_at_folder

log = structlog.get_logger(__name__)

POLL_S = 0.5
# What is written over in place does not change the folder: everything is compared now and then.
FULL_LOOK_S = 30.0
FORGET_S = 600.0
# A file made just after a look may bear the same time as the folder then had.
GRAIN_S = 1.0
PAUSE_S = 1.0  # while the folder or the database is away
PATH_LIMIT = 700  # bytes, in an index


class Command(BaseCommand):
    """Looks at the folder until SIGTERM or SIGINT; any number may run at once."""

    # A process that starts with many others: Django's checks would import every page for it.
    requires_system_checks = []
    help = (
        "Take the alert files (*.json) of a folder as signals of the strategy `outside`, each "
        "once, and go on watching. Files are only read, unless --archive says where judged ones "
        "go. Example: manage.py watch_alerts --folder /srv/bots/alerts --once --json"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--folder", type=Path, help="default: WATCH_ALERTS_DIR")
        parser.add_argument("--once", action="store_true", help="look once and end")
        parser.add_argument(
            "--archive", type=Path, help="move judged files there (on the same file system)"
        )
        parser.add_argument("--json", action="store_true", help="a line per look, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Watch; a folder that is none ends in one line and exit code 2."""
        folder = _folder(options["folder"], options["archive"])
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if options["once"]:
            tally = Tally()
            while not stop.is_set():
                part = look_at_folder(folder=folder, is_stopped=stop.is_set)
                tally = tally.plus(part)
                if part.is_all:
                    break
            forget_gone_files(folder=folder)
            self._show(tally, as_json=options["json"])
            return
        watch = _Watch(folder, stop)
        for tally in iter(watch.next_look, None):
            if tally.judged:
                self._show(tally, as_json=options["json"])

    def _show(self, tally: Tally, *, as_json: bool) -> None:
        counts = asdict(tally)
        counts.pop("is_all")
        if as_json:
            self.stdout.write(json.dumps(counts))
        else:
            self.stdout.write(", ".join(f"{name} {count}" for name, count in counts.items()))
        self.stdout.flush()


class _Watch:
    """Waits until there may be something to see, and sees."""

    def __init__(self, folder: AlertFolder, stop: threading.Event) -> None:
        self._folder = folder
        self._stop = stop
        self._changed_ns = -1  # of the folder, at the last look
        self._full_at = self._forgot_at = float("-inf")  # monotonic
        self._last = Tally()

    def next_look(self) -> Tally | None:
        """The next look at a folder in which something happened; None when stopped."""
        while not self._stop.is_set():
            try:
                if self._is_due():
                    return self._look()
                self._forget()
                self._stop.wait(POLL_S)
            except (OSError, Error) as error:
                log.warning("alerts_not_watched", reason=" ".join(str(error).split())[:300])
                connection.close()
                self._full_at = float("-inf")
                self._stop.wait(PAUSE_S)
        return None

    def _is_due(self) -> bool:
        changed_ns = os.stat(self._folder.path).st_mtime_ns
        is_late = time.monotonic() - self._full_at >= FULL_LOOK_S
        is_due = changed_ns != self._changed_ns or is_late or not self._last.is_all
        if is_due or self._last.waiting:
            is_certain = time.time() - changed_ns / 1e9 > GRAIN_S
            self._changed_ns = changed_ns if is_certain else -1
            return True
        return False

    def _look(self) -> Tally:
        began = time.monotonic()
        self._last = look_at_folder(folder=self._folder, is_stopped=self._stop.is_set)
        self._full_at = began
        if self._last.is_all:
            self._stop.wait(POLL_S)
        return self._last

    def _forget(self) -> None:
        if time.monotonic() - self._forgot_at >= FORGET_S:
            forget_gone_files(folder=self._folder)
            self._forgot_at = time.monotonic()


def _folder(path: Path | None, archive: Path | None) -> AlertFolder:
    """What is asked for, checked. Raises CommandError."""
    path = path or settings.ENV.watch_alerts_dir
    if path is None:
        raise CommandError("no folder: give --folder, or set WATCH_ALERTS_DIR", returncode=2)
    for each in filter(None, (path, archive)):
        if not each.is_dir():
            raise CommandError(f"{each} is not a folder", returncode=2)
    path = path.resolve()
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise CommandError(f"the path has more than {PATH_LIMIT} bytes", returncode=2)
    if archive is not None:
        archive = archive.resolve()
        if archive == path or archive.stat().st_dev != path.stat().st_dev:
            raise CommandError("--archive: another folder of the same file system", returncode=2)
    return AlertFolder(path=path, archive=archive)
