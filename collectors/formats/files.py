"""How a file comes to be: whole or not at all, and never over another."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

PART_SUFFIX = ".part"
# Nobody writes one file for so long (wall seconds).
ABANDONED_AFTER_S = 24 * 3600


def split_suffix(path: Path) -> tuple[str, str]:
    """The name before its suffix and the suffix in lower case; `.csv.gz` is one suffix."""
    stem, suffix = path.stem, path.suffix
    if suffix.lower() == ".gz":
        inner = Path(stem)
        stem, suffix = inner.stem, inner.suffix + suffix
    return stem, suffix.lower()


def numbered_names(path: Path) -> list[Path]:
    """The files that stand under the name: `path`, then `_2`, `_3` before its suffix."""
    found = itertools.takewhile(Path.exists, (_numbered(path, n) for n in itertools.count(1)))
    return list(found)


def write_new_text(path: Path, text: str, *, is_once: bool = False) -> Path:
    """Write `text` in UTF-8 as `write_new_file` does. `is_once`: a file under one of the names that
    says the same already is enough. Raises OSError."""

    def says_so(target: Path) -> bool:
        # Whose file has taken the name may be a stranger, and what is in it no text.
        return is_once and target.is_file() and target.read_bytes() == text.encode()

    return write_new_file(path, partial(_write_text, text), is_enough=says_so)


def write_new_file(
    path: Path,
    fill: Callable[[Path], None],
    *,
    is_enough: Callable[[Path], bool] = lambda _: False,
) -> Path:
    """Let `fill` write a part file beside `path`, then put it under the first free name: `path`,
    or with `_2`, `_3` before the suffix; or leave it where `is_enough` says so of what is there.
    Gives the name.

    Whoever is killed meanwhile leaves a hidden part file and nothing else. Raises OSError, and
    what `fill` raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=PART_SUFFIX, dir=path.parent
    )
    os.close(descriptor)
    part = Path(name)
    try:
        fill(part)
        _settle(part)
        for number in itertools.count(1):
            target = _numbered(path, number)
            # A link fails where the name is taken; a rename would replace what is there.
            try:
                os.link(part, target)
                break
            except FileExistsError:
                if is_enough(target):
                    break
    finally:
        part.unlink()
    _settle(path.parent)
    return target


def remove_abandoned_parts(folder: Path) -> int:
    """Remove the part files below the folder that killed writers left; gives how many."""
    removed = 0
    for part in folder.rglob(f".*{PART_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mtime < time.time() - ABANDONED_AFTER_S:
                part.unlink()
                removed += 1
    return removed


def _write_text(text: str, part: Path) -> None:
    part.write_text(text, encoding="utf-8")


def _numbered(path: Path, number: int) -> Path:
    if number == 1:
        return path
    stem, suffix = split_suffix(path)
    return path.with_name(f"{stem}_{number}{path.name[len(stem) :] if suffix else ''}")


def _settle(path: Path) -> None:
    """Wait until the disk has the file's content, or the folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
