"""JSON of strangers at the bounds of what is taken."""

from __future__ import annotations

import pytest

from collectors.plainjson import DEPTH, DIGITS, JsonRefused, NotJson, read_json


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_what_is_just_within_the_bounds_is_taken() -> None:
    assert read_json(nested(DEPTH)) is not None
    assert read_json(b"9" * DIGITS) == int("9" * DIGITS)
    assert read_json(b'{"a": {"a": 1e308}}') == {"a": {"a": 1e308}}
    assert read_json(b"[NaN, -Infinity]", has_names=True) == ["NaN", "-Infinity"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (nested(DEPTH + 1), "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply|not JSON"),
        (b"9" * (DIGITS + 1), "31 digits"),
        (b"[1e309]", "larger than any number"),
        (b"NaN", "no number"),
        (b'{"a": {"b": 1, "b": 2}}', "given twice"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
    ],
)
def test_what_is_beyond_them_is_refused_with_its_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(JsonRefused, match=reason):
        read_json(raw)


@pytest.mark.parametrize("raw", [b"", b" \n", b"{", b'{"a": tru', b"\xff"])
def test_what_may_not_have_arrived_wholly_is_told_apart(raw: bytes) -> None:
    with pytest.raises(NotJson):
        read_json(raw)
