"""JSON as it is taken from strangers, read to the letter. Pure.

JsonRefused     it cannot be taken; the text is the reason
  +- NotJson    it is no JSON text: cut off, or something else
"""

from __future__ import annotations

import codecs
import json
import math
from typing import Any

DIGITS = 30  # of a whole number
DEPTH = 64  # of values within values
SHOWN = 60  # characters of what is quoted in a reason
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class JsonRefused(ValueError):
    """The text is not taken. The reason is one line for people, whatever the text contains."""


class NotJson(JsonRefused):
    """No JSON text. What has not wholly arrived looks like this."""


def read_json(raw: bytes, *, has_names: bool = False) -> Any:
    """The value of a JSON text in UTF-8. Raises JsonRefused.

    Numbers are finite, and of at most 30 digits where they are whole; no name is given twice;
    nothing lies deeper than 64 levels. `has_names` reads NaN and Infinity as their names.

    RFC 8259 leaves duplicate names, byte order marks and large numbers to the reader; two readers
    that understand an order differently are one too many.
    """
    if not raw.strip():
        raise NotJson("empty")
    if raw.startswith(MARKS):
        raise JsonRefused("begins with a byte order mark; UTF-8 without one is wanted")
    try:
        found = (_NAMING if has_names else _DECODER).decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise JsonRefused("nested too deeply") from None
    _refuse_depth(found)
    return found


def shown(value: object) -> str:
    """A value as a reason quotes it: short and in plain ASCII."""
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _refuse_depth(value: Any) -> None:
    """What the stack could read, whoever writes it again may not have the stack for."""
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise JsonRefused("nested too deeply")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise JsonRefused(f"{shown(name)} is given twice")
        found[name] = value
    return found


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise JsonRefused(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonRefused(f"{shown(text)} is larger than any number")
    return value


def _refused(text: str) -> float:
    raise JsonRefused(f"{text} is no number")


_RULES: dict[str, Any] = {
    "object_pairs_hook": _once,
    "parse_int": _whole,
    "parse_float": _finite,
}
_DECODER = json.JSONDecoder(**_RULES, parse_constant=_refused)
_NAMING = json.JSONDecoder(**_RULES, parse_constant=str)
