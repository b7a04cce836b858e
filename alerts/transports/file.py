"""Alerts as JSON files in `MTS_DATA_DIR/alerts/`, each written whole and never over another."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from django.conf import settings

from alerts.transport import Message, TransportError

UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def deliver(message: Message) -> str:
    """Write the alert and return the file's name; an earlier copy of the same alert is enough.

    Raises TransportError when the folder cannot be written.
    """
    folder = settings.DATA_DIR / "alerts"
    asset = UNSAFE.sub("-", message.asset)
    stem = f"{message.kind}_alert_{asset}_{message.at:%Y%m%d_%H%M%S}"
    text = json.dumps(dict(message.body), indent=2, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _write_new(folder, stem, text).name
    except OSError as error:
        raise TransportError(f"{folder}: {error.strerror or error}") from error


def _write_new(folder: Path, stem: str, text: str) -> Path:
    """Put `text` under the first free name: `stem`, `stem_2`, `stem_3` and so on.

    The body carries the alert's id, so a file with the same text is this alert's own, left by an
    attempt that was cut off before it could be recorded.
    """
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        number = 1
        while True:
            target = folder / (f"{stem}.json" if number == 1 else f"{stem}_{number}.json")
            try:
                # A link fails where the name is taken; a rename would replace what is there.
                os.link(part, target)
                return target
            except FileExistsError:
                if target.read_text(encoding="utf-8") == text:
                    return target
            number += 1
    finally:
        part.unlink()
