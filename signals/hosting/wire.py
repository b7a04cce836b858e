"""What a host and the process of a strategy file tell each other: frames on pipes. Pure.

    4 bytes (big endian): the length of the header | the header: JSON | the bytes of its arrays

The header's `arrays` lists `[name, dtype, shape]` in the order of their bytes. Nothing is pickled:
whatever a frame says, reading it runs no code.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LENGTH = struct.Struct(">I")
HEADER_LIMIT = 1 << 20
DTYPES = ("float64", "int64", "int8", "uint8", "bool")


class WireError(ValueError):
    """Bytes that are no frame."""


@dataclass(frozen=True)
class ArraySpec:
    """An array as a header announces it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def encode(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[bytes | memoryview]:
    """A frame, as parts to be written one after the other."""
    solid = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    listed = [[name, values.dtype.name, list(values.shape)] for name, values in solid.items()]
    text = json.dumps({**header, "arrays": listed}).encode()
    if len(text) > HEADER_LIMIT:
        raise WireError(f"a header of {len(text)} bytes")
    parts: list[bytes | memoryview] = [LENGTH.pack(len(text)), text]
    parts += [values.reshape(-1).view(np.uint8).data for values in solid.values()]
    return parts


def header_length(prefix: bytes) -> int:
    """How many bytes of header follow a frame's first four. Raises WireError."""
    length = int(LENGTH.unpack(prefix)[0])
    if not 2 <= length <= HEADER_LIMIT:
        raise WireError("what it sent is no frame")
    return length


def parse_header(text: bytes) -> tuple[dict[str, Any], list[ArraySpec]]:
    """A header and the arrays that follow it. Raises WireError."""
    try:
        header = json.loads(text)
        listed = header.pop("arrays")
        specs = [ArraySpec(name, dtype, tuple(shape)) for name, dtype, shape in listed]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WireError("what it sent is no frame") from None
    for spec in specs:
        is_shape = all(type(size) is int and 0 <= size < 1 << 40 for size in spec.shape)
        if not (isinstance(spec.name, str) and is_shape and len(spec.shape) <= 2):
            raise WireError("an array is announced that cannot be")
        if spec.dtype not in DTYPES:
            raise WireError(f"{spec.name[:40]} is {str(spec.dtype)[:40]}")
    return header, specs


def decode_arrays(specs: list[ArraySpec], payload: bytes | bytearray) -> dict[str, Array]:
    """The announced arrays over the bytes that follow a header; read-only over `bytes`."""
    found: dict[str, Array] = {}
    offset = 0
    for spec in specs:
        count = math.prod(spec.shape)
        values = np.frombuffer(payload, dtype=spec.dtype, count=count, offset=offset)
        found[spec.name] = values.reshape(spec.shape)
        offset += spec.size
    return found


def named_arrays(holder: Any) -> Iterator[tuple[str, Any]]:
    """What a market or an analysis holds by field; the entries of a mapping as `field:key`."""
    for field in dataclasses.fields(holder):
        value = getattr(holder, field.name)
        if isinstance(value, Mapping):
            yield from ((f"{field.name}:{key}", each) for key, each in value.items())
        else:
            yield field.name, value


def result_dtype(name: str) -> str:
    """What an array of an analysis holds."""
    return "int8" if name == "direction" else "float64"
