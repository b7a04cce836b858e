"""The certificates that come with our code: one JSON file each in `signals/certificates/`. Pure.

They were made on the built world for the presets' parameters, and are worth something only where
their hash is that of the present code. `manage.py certify --ship` writes them.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from signals.certificate import Certificate

FOLDER = "certificates"


def shipped_certificate(name: str, code_hash: str) -> dict[str, Any] | None:
    """The certificate that came with the code, if it is for this hash and was passed."""
    place = files("signals").joinpath(FOLDER, f"{name}.json")
    try:
        content: dict[str, Any] = json.loads(place.read_text())
    except (FileNotFoundError, ValueError):
        return None
    is_valid = content.get("code_hash") == code_hash and content.get("is_passed") is True
    return content if is_valid else None


def ship_certificate(certificate: Certificate) -> Path:
    """Write it beside the code. Raises OSError where the code cannot be written to."""
    folder = Path(str(files("signals"))) / FOLDER
    folder.mkdir(exist_ok=True)
    place = folder / f"{certificate.strategy}.json"
    place.write_text(json.dumps(certificate.as_json(), indent=2) + "\n")
    return place
