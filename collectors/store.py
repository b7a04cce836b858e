"""Candle series as memory-mapped files: one per series and revision, each column in one piece.

The files are copies of what the database holds, below one folder; any of them may be removed at
any time. A file appears whole, under a name that says which state of which series it is, and is
never written again, so that several processes may read and fill at once and a reader keeps its
mapping after the file is gone. What is not such a file, or is cut short, or is of another format,
reads as absent. So does a file that was written before the machine last started: nothing waits
for the disk when one is written, so that a power cut may have left holes in it.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import struct
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from collectors.columns import COLUMNS, CandleColumns

MAGIC = b"MTSCOLS\n"
VERSION = 2
# Columns begin on a page; the header is magic, version, revision, rows, then lengths and texts of
# identity, machine start and key, and ends with the checksum of all before.
HEADER_SIZE = 4096
_numbers = struct.Struct("<8sIqq")
_OTHERS = {"open_time": "<i8", "volume_source": "i1", "sampled": "?"}
_KINDS = {name: "<f8" for name in COLUMNS} | _OTHERS
_ROW_SIZE = sum(np.dtype(kind).itemsize for kind in _KINDS.values())
SUFFIX = ".columns"
ABANDONED_AFTER_S = 3600.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Version:
    """A state of a series: the revision, and which series of which database it counts."""

    identity: str
    revision: int


@dataclass(frozen=True)
class MappedSeries:
    """A series as it was at a version; the columns are read-only and stay valid."""

    version: Version
    columns: CandleColumns


def find_series(folder: Path, key: str, version: Version) -> MappedSeries | None:
    """The series at this version or, without it, at the newest earlier one that is there."""
    home = _home(folder, key)
    exact = _mapped(home / _name(version), key, version)
    if exact is not None:
        return exact
    for earlier in sorted(_versions(home), key=lambda each: -each.revision):
        if earlier.identity == version.identity and earlier.revision < version.revision:
            found = _mapped(home / _name(earlier), key, earlier)
            if found is not None:
                return found
    return None


def write_series(folder: Path, key: str, version: Version, columns: CandleColumns) -> MappedSeries:
    """Write the series at a version, and remove its files of earlier ones. Raises OSError."""
    home = _home(folder, key)
    home.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=home, prefix=".")
    try:
        with open(descriptor, "wb") as file:
            file.write(_header(key, version, len(columns)))
            for name, kind in _KINDS.items():
                file.write(np.ascontiguousarray(getattr(columns, name), kind).data)
            if not _boot():
                file.flush()
                os.fsync(descriptor)
        written = _mapped(Path(temporary), key, version)
        os.replace(temporary, home / _name(version))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if written is None:
        raise OSError(f"{home / _name(version)} was not written as it should be")
    _tidy(home, version)
    return written


def _home(folder: Path, key: str) -> Path:
    return folder / quote(key, safe="")


def _name(version: Version) -> str:
    return f"{version.revision}-{version.identity}{SUFFIX}"


def _versions(home: Path) -> list[Version]:
    """The versions that the folder's files are named by."""
    versions: list[Version] = []
    with contextlib.suppress(OSError):
        for path in home.iterdir():
            revision, _, identity = path.name.removesuffix(SUFFIX).partition("-")
            if path.suffix == SUFFIX and revision.isdecimal():
                versions.append(Version(identity, int(revision)))
    return versions


def _mapped(path: Path, key: str, version: Version) -> MappedSeries | None:
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_SIZE)
            if len(header) < HEADER_SIZE:
                return None
            rows = _numbers.unpack_from(header)[3]
            size = os.fstat(file.fileno()).st_size
            if header != _header(key, version, rows) or size != HEADER_SIZE + rows * _ROW_SIZE:
                return None
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError, struct.error):
        return None
    columns, offset = {}, HEADER_SIZE
    for name, kind in _KINDS.items():
        columns[name] = np.frombuffer(content, kind, rows, offset)
        offset += columns[name].nbytes
    return MappedSeries(version, CandleColumns(**columns))


def _header(key: str, version: Version, rows: int) -> bytes:
    parts = [_numbers.pack(MAGIC, VERSION, version.revision, rows)]
    for text in (version.identity, _boot(), key):
        parts += [struct.pack("<H", len(text.encode())), text.encode()]
    content = b"".join(parts).ljust(HEADER_SIZE - 4, b"\0")
    return content + struct.pack("<I", zlib.crc32(content))


def _tidy(home: Path, version: Version) -> None:
    """Remove what is not the newest of this database's series, and what a killed writer left."""
    newest = version.revision
    for each in _versions(home):
        if each.identity == version.identity:
            newest = max(newest, each.revision)
    long_ago = time.time() - ABANDONED_AFTER_S
    for path in home.iterdir():
        is_newest = path.name == _name(Version(version.identity, newest))
        with contextlib.suppress(FileNotFoundError):
            if path.name.startswith("."):
                if path.stat().st_mtime < long_ago:
                    path.unlink()
            elif not is_newest:
                path.unlink()


@functools.cache
def _boot() -> str:
    """What names the time since the machine's start; empty where nothing does."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
