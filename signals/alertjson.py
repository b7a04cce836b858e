"""Alerts as programs outside write them, read to the letter. Pure.

AlertRefused      it is no alert that can be taken; the text is the reason
  +- NotWhole     it is no JSON: of a file perhaps not yet
"""

from __future__ import annotations

from typing import Any

from collectors.plainjson import JsonRefused, NotJson, read_json

SIZE_LIMIT = 64 * 1024  # bytes; an alert has a few hundred


class AlertRefused(ValueError):
    """The alert is not taken. The text is one line for people, whatever the alert contains."""


class NotWhole(AlertRefused):
    """No JSON text. A file that is still being written looks like this."""


def read_alert(raw: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8, as `collectors.plainjson` reads it. Raises AlertRefused."""
    if len(raw) > SIZE_LIMIT:
        raise AlertRefused(f"larger than {SIZE_LIMIT // 1024} KiB")
    try:
        found = read_json(raw)
    except NotJson as error:
        raise NotWhole(str(error)) from None
    except JsonRefused as error:
        raise AlertRefused(str(error)) from None
    if not isinstance(found, dict):
        raise AlertRefused("not a JSON object")
    return found
