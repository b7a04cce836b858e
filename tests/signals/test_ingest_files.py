"""Alert files in a folder: read when whole, judged once, left where they are."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DataError, connection

from collectors.models import Instrument
from signals.models import AlertFile, OutsideAlert, Signal
from signals.services import AlertFolder, Tally, alert_folders, forget_gone_files, look_at_folder
from tests.permissions import bound_by_permissions
from tests.signals.outside_files import NOW, NOW_MS, signal_alert, volatility_alert, write_alert

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bitcoin(db: None, clock_at: Any) -> Instrument:
    clock_at(NOW)
    return Instrument.objects.create(coin_id="bitcoin", symbol="BTC", name="Bitcoin", sector="test")


@pytest.fixture
def folder(tmp_path: Path) -> AlertFolder:
    made = tmp_path / "bots"
    made.mkdir()
    return AlertFolder(path=made)


def settle(path: Path) -> None:
    """As if it had not changed for long."""
    os.utime(path, ns=(0, time.time_ns() - 3_600 * 10**9), follow_symlinks=False)


def counts(tally: Tally) -> tuple[int, int, int, int]:
    return tally.accepted, tally.refused, tally.known, tally.waiting


def test_files_are_taken_once_and_left(bitcoin: Instrument, folder: AlertFolder) -> None:
    first = write_alert(folder.path, "volatility_alert_1.json", volatility_alert())
    write_alert(folder.path, "copy.json", volatility_alert(asset="bitcoin"))
    write_alert(folder.path, "notes.txt", b"{}")
    write_alert(folder.path, ".half.json", b"{}")
    before = first.stat()
    assert counts(look_at_folder(folder=folder)) == (1, 0, 1, 0)
    assert counts(look_at_folder(folder=folder)) == (0, 0, 0, 0)
    assert sorted(path.name for path in folder.path.iterdir()) == [
        ".half.json",
        "copy.json",
        "notes.txt",
        "volatility_alert_1.json",
    ]
    assert first.stat().st_mtime_ns == before.st_mtime_ns
    alert = OutsideAlert.objects.get()
    assert alert.folder == str(folder.path)
    assert alert.file_name in ("copy.json", "volatility_alert_1.json")
    assert Signal.objects.count() == 1


def test_a_file_is_waited_for_until_it_is_whole(bitcoin: Instrument, folder: AlertFolder) -> None:
    text = json.dumps(volatility_alert()).encode()
    path = folder.path / "slow.json"
    for end in (0, 1, len(text) // 2, len(text) - 1):
        path.write_bytes(text[:end])
        assert counts(look_at_folder(folder=folder)) == (0, 0, 0, 1)
        assert counts(look_at_folder(folder=folder)) == (0, 0, 0, 1)
        assert AlertFile.objects.get().state == "waiting"
    path.write_bytes(text)
    assert counts(look_at_folder(folder=folder)) == (1, 0, 0, 0)
    assert AlertFile.objects.get().result == "accepted"


def test_a_half_file_is_refused_when_nobody_writes_it_any_more(
    bitcoin: Instrument, folder: AlertFolder
) -> None:
    path = write_alert(folder.path, "dead.json", b'{"asset": "bit')
    assert counts(look_at_folder(folder=folder)) == (0, 0, 0, 1)
    settle(path)
    assert counts(look_at_folder(folder=folder)) == (0, 1, 0, 0)
    assert "not JSON" in OutsideAlert.objects.get().reason
    assert counts(look_at_folder(folder=folder)) == (0, 0, 0, 0)
    write_alert(folder.path, "dead.json", volatility_alert())  # written again, and whole
    assert counts(look_at_folder(folder=folder)) == (1, 0, 0, 0)
    # A file of the future settles too, by when it was first seen.
    path = write_alert(folder.path, "ahead.json", b"{")
    os.utime(path, (time.time() + 3_600,) * 2)
    assert look_at_folder(folder=folder).waiting == 1
    AlertFile.objects.filter(name="ahead.json").update(seen_at=NOW.replace(year=2020))
    assert look_at_folder(folder=folder).refused == 1


def test_hostile_files_are_refused_with_the_reason(
    bitcoin: Instrument, folder: AlertFolder, tmp_path: Path
) -> None:
    outside = write_alert(tmp_path, "secret.json", volatility_alert())
    (folder.path / "folder.json").mkdir()
    (folder.path / "link.json").symlink_to(outside)
    (folder.path / "nowhere.json").symlink_to("/dev/zero")
    os.mkfifo(folder.path / "pipe.json")
    with (folder.path / "huge.json").open("wb") as stream:
        stream.truncate(10_000_000)
    write_alert(folder.path, "deep.json", b"[" * 60_000)
    write_alert(folder.path, "x%2f..%2f..%2fy.json", b'{"a": 1, "a": 1}')
    write_alert(folder.path, "\n\u202e.json", b"[]")
    odd = os.fsencode(folder.path) + b"/\xff\xfe.json"
    Path(os.fsdecode(odd)).write_bytes(b"\xef\xbb\xbf{}")
    began = time.monotonic()
    assert counts(look_at_folder(folder=folder)) == (0, 9, 0, 0)
    assert time.monotonic() - began < 5.0
    reasons = dict(OutsideAlert.objects.values_list("file_name", "reason"))
    assert reasons == {
        "folder.json": "not a regular file",
        "link.json": "a symbolic link",
        "nowhere.json": "a symbolic link",
        "pipe.json": "not a regular file",
        "huge.json": "larger than 64 KiB",
        "deep.json": "nested too deeply",
        "x%2f..%2f..%2fy.json": "'a' is given twice",
        "\n\u202e.json": "not a JSON object",
        "\\xff\\xfe.json": "begins with a byte order mark; UTF-8 without one is wanted",
    }
    assert counts(look_at_folder(folder=folder)) == (0, 0, 0, 0)
    assert not Signal.objects.exists()


def test_one_file_that_cannot_be_stored_holds_up_no_other(
    bitcoin: Instrument, folder: AlertFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = alert_folders.ingest_alerts

    def fails(*, arrivals: Any) -> Any:
        if any(b"poison" in arrival.raw for arrival in arrivals):
            raise DataError("no such value")
        return ingest(arrivals=arrivals)

    monkeypatch.setattr(alert_folders, "ingest_alerts", fails)
    write_alert(folder.path, "a.json", volatility_alert(id="poison"))
    write_alert(folder.path, "b.json", volatility_alert())
    assert counts(look_at_folder(folder=folder)) == (1, 1, 0, 0)
    assert OutsideAlert.objects.get(file_name="a.json").reason == "not stored: no such value"


def test_more_files_than_one_look_takes_are_taken_by_the_next(
    bitcoin: Instrument, folder: AlertFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_folders, "LOOK_LIMIT", 3)
    for number in range(5):
        alert = volatility_alert(timestamp=NOW_MS - 1_000 * number)
        path = write_alert(folder.path, f"{number}.json", alert)
        os.utime(path, (1_000 - number,) * 2)
    first = look_at_folder(folder=folder)
    assert (first.accepted, first.is_all) == (3, False)
    assert set(AlertFile.objects.values_list("name", flat=True)) == {"0.json", "1.json", "2.json"}
    second = look_at_folder(folder=folder)
    assert (second.accepted, second.is_all) == (2, True)


def test_judged_files_go_to_the_archive_when_told_so(
    bitcoin: Instrument, folder: AlertFolder, tmp_path: Path
) -> None:
    write_alert(folder.path, "old.json", volatility_alert())
    look_at_folder(folder=folder)
    archive = tmp_path / "archive"
    archive.mkdir()
    write_alert(archive, "old.json", b"another")
    write_alert(folder.path, "new.json", volatility_alert(timestamp=NOW_MS - 1))
    write_alert(folder.path, "half.json", b"{")
    (folder.path / "folder.json").mkdir()
    look_at_folder(folder=AlertFolder(path=folder.path, archive=archive))
    assert {path.name for path in folder.path.iterdir()} == {"half.json", "folder.json"}
    assert {path.name for path in archive.iterdir()} == {"old.json", "old_2.json", "new.json"}
    assert (archive / "old.json").read_bytes() == b"another"


def test_our_own_folder_gives_back_only_what_others_wrote(
    bitcoin: Instrument, tmp_path: Path
) -> None:
    ours = settings.DATA_DIR / "alerts"
    ours.mkdir(exist_ok=True)
    link = tmp_path / "also_ours"
    link.symlink_to(ours)
    paths = [
        write_alert(ours, "signal_alert_x.json", signal_alert(asset="bitcoin")),
        write_alert(ours, "volatility_alert_x.json", volatility_alert()),
    ]
    try:
        assert counts(look_at_folder(folder=AlertFolder(path=link))) == (1, 1, 0, 0)
    finally:
        for path in paths:
            path.unlink()
    assert OutsideAlert.objects.get(verdict="refused").reason == "our own alert"


def test_what_is_gone_is_forgotten(bitcoin: Instrument, folder: AlertFolder) -> None:
    path = write_alert(folder.path, "a.json", volatility_alert())
    look_at_folder(folder=folder)
    assert forget_gone_files(folder=folder) == 0
    path.unlink()
    assert forget_gone_files(folder=folder) == 1
    write_alert(folder.path, "a.json", volatility_alert())  # back again: known by what it says
    assert counts(look_at_folder(folder=folder)) == (0, 0, 1, 0)


# --- The command ----------------------------------------------------------------------------


def test_wrong_folders_end_in_one_line(db: None, tmp_path: Path) -> None:
    for arguments, message in (
        ([], "WATCH_ALERTS_DIR"),
        (["--folder", str(tmp_path / "none")], "is not a folder"),
        (["--folder", str(tmp_path), "--archive", str(tmp_path)], "another folder"),
    ):
        with pytest.raises(CommandError, match=message) as refused:
            call_command("watch_alerts", *arguments)
        assert refused.value.returncode == 2


def test_one_look_counts_what_came_of_it(
    bitcoin: Instrument, folder: AlertFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own handlers
    monkeypatch.setattr(alert_folders, "LOOK_LIMIT", 2)
    write_alert(folder.path, "a.json", volatility_alert())
    write_alert(folder.path, "b.json", volatility_alert())
    write_alert(folder.path, "c.json", b"{}")
    write_alert(folder.path, "d.json", b"{")
    for expected in ((1, 1, 1, 1), (0, 0, 0, 1)):
        output = StringIO()
        call_command("watch_alerts", folder=folder.path, once=True, json=True, stdout=output)
        assert tuple(json.loads(output.getvalue()).values()) == expected


def watcher(folder: Path) -> "subprocess.Popen[str]":
    """A real process that watches, on the database of the test and the clock of the machine."""
    database = urlsplit(os.environ["DATABASE_URL"])._replace(
        path=f"/{connection.settings_dict['NAME']}"
    )
    return subprocess.Popen(
        [sys.executable, "manage.py", "watch_alerts", "--json", "--folder", folder],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": database.geturl()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=bound_by_permissions,
    )


@pytest.mark.long(10)
@pytest.mark.django_db(transaction=True)
def test_killed_watchers_take_every_file_once(tmp_path: Path) -> None:
    """Two watch at once; one is killed, wherever it is, the other loses its connection and is
    killed too, and a third finishes what they have left."""
    Instrument.objects.create(coin_id="bitcoin", symbol="BTC", name="Bitcoin", sector="test")
    now_ms = time.time_ns() // 10**6
    for number in range(1_000):
        alert = volatility_alert(timestamp=now_ms - 1_000 * number)
        write_alert(tmp_path, f"{number}.json", alert)
    write_alert(tmp_path, "private.json", volatility_alert()).chmod(0)
    taken = OutsideAlert.objects.filter(verdict="accepted")
    running = [watcher(tmp_path), watcher(tmp_path)]
    try:
        for wanted in (1, 400):
            wait_until(lambda wanted=wanted: taken.count() >= wanted)
            running[0].kill()
            running.pop(0).communicate()
            lose_connections()
        running.append(watcher(tmp_path))
        wait_until(lambda: taken.count() == 1_000)
        running[0].send_signal(signal.SIGTERM)
        _, errors = running[0].communicate(timeout=60)
        assert running[0].returncode == 0, errors
    finally:
        for process in running:
            process.kill()
            process.communicate()
    assert taken.count() == Signal.objects.count() == 1_000
    assert AlertFile.objects.get(name="private.json").result == "cannot be read: Permission denied"


def lose_connections() -> None:
    """As when the database is started anew: everybody else's connection ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
