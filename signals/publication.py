"""Copies of signals for live readers outside: the Redis key of each, and a JSON file per run.

The tables are the truth. A copy that cannot be written is logged and forgotten.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import redis
import structlog
from django.conf import settings

from signals.models import Signal

log = structlog.get_logger(__name__)

KEY_TTL_S = 24 * 3600
REDIS_TIMEOUT_S = 2.0


def publish(
    signals: Sequence[Signal], context: Mapping[str, Any], *, overtaken: Collection[int] = ()
) -> None:
    """Write `signal:{strategy}:{asset}` for each signal, and one file for all of them.

    The key is that of the newest: the ids of signals that came after a newer one are `overtaken`.
    """
    if not signals:
        return
    try:
        _write_keys([signal for signal in signals if signal.pk not in overtaken])
    except redis.RedisError as error:
        log.warning("signal_keys_not_written", reason=str(error))
    try:
        _write_file(signals, context)
    except OSError as error:
        log.warning("signal_file_not_written", reason=str(error))


def signal_json(signal: Signal) -> dict[str, Any]:
    """A signal as programs read it; times are ISO 8601 UTC."""
    return {
        "id": signal.pk,
        "strategy": signal.strategy,
        "asset": signal.instrument.coin_id,
        "timeframe": signal.timeframe,
        "timestamp": signal.at.isoformat(),
        "signal_type": signal.signal_type,
        "price": signal.price,
        "confidence": signal.confidence,
        "position_size": signal.position_size,
        "stop_loss": signal.stop_loss,
        "take_profit": signal.take_profit,
        "risk_level": signal.risk_level,
        "expires_at": signal.expires_at.isoformat(),
        "reasons": signal.reasons,
    }


def write_new_file(folder: Path, stem: str, payload: Mapping[str, Any]) -> Path:
    """Write JSON to `stem.json`, or `stem_2.json` and so on where the name is taken.

    The file appears whole or not at all and never replaces another. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{stem}.{os.getpid()}.{os.urandom(4).hex()}"
    temporary.write_text(json.dumps(payload, indent=2, allow_nan=False))
    try:
        number = 1
        while True:
            target = folder / (f"{stem}.json" if number == 1 else f"{stem}_{number}.json")
            with contextlib.suppress(FileExistsError):
                os.link(temporary, target)
                return target
            number += 1
    finally:
        temporary.unlink()


def _write_keys(signals: Sequence[Signal]) -> None:
    with _client().pipeline(transaction=False) as pipeline:
        for signal in signals:
            key = f"signal:{signal.strategy}:{signal.instrument.coin_id}"
            pipeline.set(key, json.dumps(signal_json(signal)), ex=KEY_TTL_S)
        pipeline.execute()


def _write_file(signals: Sequence[Signal], context: Mapping[str, Any]) -> None:
    at = signals[0].at
    payload = {
        "timestamp": at.isoformat(),
        "signals": [
            {
                "strategy": signal.strategy,
                "asset": signal.instrument.coin_id,
                "signal": signal.signal_type,
                "confidence": signal.confidence,
                "position_size": signal.position_size,
                "risk_level": signal.risk_level,
            }
            for signal in signals
        ],
        "market_context": dict(context),
    }
    write_new_file(settings.DATA_DIR / "signals", f"signals_{at:%Y%m%d_%H%M%S}", payload)


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
    )
