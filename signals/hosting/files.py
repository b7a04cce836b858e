"""Which strategy files may be run: the user's own, that nobody else can write.

FileRefused      the folder or the file is not as it must be; the text says what to do
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FILE_NAME = re.compile(r"([a-z][a-z0-9_]{0,62})\.py")
SIZE_LIMIT = 256 * 1024  # bytes
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class FileRefused(Exception):
    """The file is not run; the text says why."""


@dataclass(frozen=True)
class StrategyFile:
    """The bytes of a file as they were read once: these are hashed, and these are run."""

    name: str
    source: bytes = field(repr=False)
    sha256: str
    modified_at: float = field(default=0.0, compare=False)  # epoch seconds, wall time


def read_strategy_file(folder: Path, name: str) -> StrategyFile:
    """Read `{name}.py` in a folder, if both are ours and nobody else can write them.

    Links are not followed, so what is looked at is what is read. Raises FileRefused, and
    FileNotFoundError when there is no such file.
    """
    file_name = f"{name}.py"
    if FILE_NAME.fullmatch(file_name) is None:
        raise FileRefused(f"{file_name}: a name of a to z, 0 to 9 and _, beginning with a letter")
    with _opened_folder(folder) as directory:
        try:
            # Not to wait for somebody to write into a pipe of that name.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(file_name, flags, dir_fd=directory)
        except FileNotFoundError:
            raise
        except OSError as error:
            reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
            raise FileRefused(f"{file_name} cannot be read: {reason}") from None
        try:
            facts = os.fstat(descriptor)
            _check_owner(file_name, facts)
            if not stat.S_ISREG(facts.st_mode):
                raise FileRefused(f"{file_name} is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                source = stream.read(SIZE_LIMIT + 1)
        finally:
            os.close(descriptor)
    if len(source) > SIZE_LIMIT:
        raise FileRefused(f"{file_name} is larger than {SIZE_LIMIT // 1024} KiB")
    return StrategyFile(name, source, hashlib.sha256(source).hexdigest(), facts.st_mtime)


def strategy_file_names(folder: Path) -> list[str]:
    """The names (without `.py`) of what may be meant as a strategy, also of what is refused.

    Files that begin with a dot or an underscore are passed over. Raises FileRefused for a folder
    that is not ours alone.
    """
    with _opened_folder(folder) as directory:
        found = sorted(os.listdir(directory))
    return [
        name.removesuffix(".py") for name in found if name.endswith(".py") and name[0] not in "._"
    ]


def is_settled(folder: Path, name: str, *, seconds: float) -> bool:
    """Whether neither the file nor the folder has changed within the last `seconds` (wall time).

    An editor may be in the middle of writing, or of putting a new file in the old one's place.
    """
    now = time.time()
    for path in (folder, folder / f"{name}.py"):
        try:
            changed = os.lstat(path).st_mtime
        except OSError:
            continue
        if 0.0 <= now - changed < seconds:
            return False
    return True


@contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(folder, flags)
    except OSError as error:
        raise FileRefused(f"MTS_STRATEGY_DIR {folder} cannot be read: {error.strerror}") from None
    try:
        _check_owner(f"MTS_STRATEGY_DIR {folder}", os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _check_owner(what: str, facts: os.stat_result) -> None:
    if facts.st_uid != os.geteuid():
        raise FileRefused(f"{what} belongs to another user")
    if facts.st_mode & WRITABLE_BY_OTHERS:
        raise FileRefused(f"{what} can be written by others: chmod go-w")
