"""The script that draws charts, found in the installed plotly package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage

NAME = "plotly.min.js"


class PlotlyFinder(BaseFinder):
    """One file of the package: the rest of its folder is not for browsers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        spec = find_spec("plotly")  # finds it without importing it
        places = spec.submodule_search_locations if spec else None
        self.folder = Path(next(iter(places or ["/nowhere"]))) / "package_data"
        self.storage = FileSystemStorage(location=self.folder)
        self.storage.prefix = "plotly"  # type: ignore[attr-defined]

    def check(self, **kwargs: Any) -> list[Any]:
        """Nothing can be set wrongly."""
        return []

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        """The file's path when its address, below the static prefix, is asked for."""
        found = str(self.folder / NAME) if path == f"plotly/{NAME}" else None
        return [found] * bool(found) if find_all else found or []

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterator[tuple[str, Any]]:
        """The one file with the storage that it lies in."""
        if self.storage.exists(NAME):
            yield NAME, self.storage
