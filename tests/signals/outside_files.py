"""Alerts that tests send, in the formats of the product's contract."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOW = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def volatility_alert(**changed: Any) -> dict[str, Any]:
    """As bots of the earlier generation write it: no id, no confidence."""
    alert = {
        "timestamp": NOW_MS,
        "asset": "bitcoin",
        "current_price": 50_000.0,
        "volatility_value": 0.08,
        "volatility_threshold": 0.05,
        "volatility_percentile": 92.0,
        "position_direction": "oversold",
        "signal_type": "LONG",
        "alert_type": "volatility_spike",
        "threshold_exceeded": True,
    }
    return alert | changed


def signal_alert(**changed: Any) -> dict[str, Any]:
    """As this product writes it, with an id."""
    alert = {
        "id": 17,
        "timestamp": NOW_MS,
        "asset": "ethereum",
        "signal_type": "SHORT",
        "confidence": 0.75,
        "strategies": ["momentum"],
        "price": 2_000.0,
        "position_size": 0.02,
        "risk_metrics": {"stop_loss": 2_050.0, "take_profit": 1_900.0},
    }
    return alert | changed


def write_alert(folder: Path, name: str, alert: Any) -> Path:
    """A file with the alert as JSON, or with the bytes given."""
    path = folder / name
    path.write_bytes(alert if isinstance(alert, bytes) else json.dumps(alert).encode())
    return path
