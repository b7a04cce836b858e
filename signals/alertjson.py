"""Alerts as programs outside write them, read to the letter. Pure.

AlertRefused      it is no alert that can be taken; the text is the reason
  +- NotWhole     it is no JSON: of a file perhaps not yet
"""

from __future__ import annotations

import codecs
import json
import math
from typing import Any

SIZE_LIMIT = 64 * 1024  # bytes; an alert has a few hundred
DIGITS = 30  # of a whole number
SHOWN = 60  # characters of what is quoted in a reason
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class AlertRefused(ValueError):
    """The alert is not taken. The text is one line for people, whatever the alert contains."""


class NotWhole(AlertRefused):
    """No JSON text. A file that is still being written looks like this."""


def read_alert(raw: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8: numbers are finite, no name is given twice. Raises AlertRefused.

    RFC 8259 leaves duplicate names, byte order marks and large numbers to the reader; two readers
    that understand an order differently are one too many.
    """
    if len(raw) > SIZE_LIMIT:
        raise AlertRefused(f"larger than {SIZE_LIMIT // 1024} KiB")
    if not raw.strip():
        raise NotWhole("empty")
    if raw.startswith(MARKS):
        raise AlertRefused("begins with a byte order mark; UTF-8 without one is wanted")
    try:
        found = _DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotWhole(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NotWhole(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise AlertRefused("nested too deeply") from None
    if not isinstance(found, dict):
        raise AlertRefused("not a JSON object")
    return found


def shown(value: object) -> str:
    """A value as a reason quotes it: short and in plain ASCII."""
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise AlertRefused(f"{shown(name)} is given twice")
        found[name] = value
    return found


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise AlertRefused(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise AlertRefused(f"{shown(text)} is larger than any number")
    return value


def _refused(text: str) -> float:
    raise AlertRefused(f"{text} is no number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=_whole, parse_float=_finite, parse_constant=_refused
)
