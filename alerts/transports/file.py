"""Alerts as JSON files in `MTS_DATA_DIR/alerts/`, each written whole and never over another."""

from __future__ import annotations

import json
import re

from django.conf import settings

from alerts.transport import Message, TransportError
from collectors.formats.files import write_new_text

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
        # The body carries the alert's id, so a file with the same text is this alert's own, left by
        # an attempt that was cut off before it could be recorded.
        return write_new_text(folder / f"{stem}.json", text, is_once=True).name
    except OSError as error:
        raise TransportError(f"{folder}: {error.strerror or error}") from error
