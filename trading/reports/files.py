"""Reports as files: each written whole or not at all, and never over another."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_new(folder: Path, stem: str, suffix: str, text: str) -> Path:
    """Write `text` under the first free name of `stem`, `stem_2`, `stem_3`, each with `suffix`.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        number = 1
        while True:
            target = folder / f"{stem}{'' if number == 1 else f'_{number}'}{suffix}"
            try:
                # A link fails where the name is taken; a rename would replace what is there.
                os.link(part, target)
            except FileExistsError:
                number += 1
            else:
                return target
    finally:
        part.unlink()
