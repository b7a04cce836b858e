"""Runs the loopback world: `python -m sandbox --port 8900 --seed 7 --speed 3600`.

With `--check` it only says, as one JSON object, where market time would start and, for a replay,
where the history ends and what of it the exchanges list. Exit codes: 0 after that, SIGTERM or
Ctrl-C; 2 with one line on stderr for arguments, a replay folder or a port that cannot be used.
"""

import argparse
import asyncio
import json
import logging
import math
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import uvicorn
import uvloop

from sandbox.bars import HOUR_MS
from sandbox.clock import MarketClock
from sandbox.instruments import REPLAYED_ONLY, SEEDED, listing_of
from sandbox.replay import History, ReplayError, read_history
from sandbox.server import Sandbox
from sandbox.world import World

HOST = "127.0.0.1"
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
# Whoever looks back on a replayed history finds this much of it, unless --start says otherwise.
LEAD_HOURS = 40 * 24
# A replay may start in a hole, but not in one wider than this on both sides.
REACH_HOURS = 24


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        _refuse(message)


class _Server(uvicorn.Server):
    """Says when it is ready, and lets the world's waiting clients go before it stops."""

    def __init__(self, config: uvicorn.Config, sandbox: Sandbox, greeting: str) -> None:
        super().__init__(config)
        self._sandbox = sandbox
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as usual, then print the one line others wait for."""
        await super().startup(sockets)
        print(self._greeting, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as usual, after the world has ended its streams."""
        self._sandbox.stop()
        await super().shutdown(sockets)


def main() -> int:
    """Parse the arguments, build the world and serve it until told to stop."""
    args = _arguments()
    wall_ms = time.time() * 1000
    anchor_ms = args.anchor.timestamp() * 1000 if args.anchor else wall_ms
    try:
        history = read_history(args.replay) if args.replay else None
        start_ms = _start_ms(args.start, history, int(wall_ms))
        if args.check:
            print(json.dumps(_outlook(start_ms, history)))
            return 0
        listener = socket.create_server((HOST, args.port))
    except ReplayError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"--port {args.port}: {error.strerror}")
    world = World(
        seed=args.seed,
        clock=MarketClock(start_ms, anchor_ms, args.speed),
        history=history,
        more_coins=args.more_coins,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server raises the signal again once it has stopped: let that be the quiet end.
        signal.signal(number, lambda *_: None)
    address = f"http://{HOST}:{listener.getsockname()[1]}"
    about = f"{world.kind} world, seed {args.seed}, speed {args.speed:g}"
    greeting = f"sandbox ready on {address} ({about})"
    uvloop.run(_serve(world, listener, greeting, args.stream_rate))
    return 0


async def _serve(world: World, listener: socket.socket, greeting: str, stream_rate: float) -> None:
    sandbox = Sandbox(world, stream_rate)
    config = uvicorn.Config(
        sandbox,
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
    )
    # It takes a handshake that was refused with a reply of its own for one that was forgotten.
    refused = "without completing handshake"
    logging.getLogger("uvicorn.error").addFilter(lambda said: refused not in said.getMessage())
    server = _Server(config, sandbox, greeting)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    streaming = asyncio.create_task(sandbox.run())
    await asyncio.wait({serving, streaming}, return_when=asyncio.FIRST_COMPLETED)
    if streaming.done():
        server.should_exit = True
        await serving
        await streaming
    streaming.cancel()


def _start_ms(wanted: datetime | None, history: History | None, wall_ms: int) -> int:
    """The market time to begin at: now, or forty days into a replayed history."""
    start_ms = int(wanted.timestamp() * 1000) if wanted else wall_ms
    if history is None:
        return start_ms
    first, end = history.hours()
    if wanted is None:
        start_ms = (first + LEAD_HOURS) * HOUR_MS
    span = f"the replayed history goes from {_iso(first * HOUR_MS)} to {_iso(end * HOUR_MS)}"
    if not first * HOUR_MS <= start_ms < end * HOUR_MS:
        _refuse(f"--start: {_iso(start_ms)} is outside, {span}")
    hour = start_ms // HOUR_MS
    if not history.has_candles(hour - REACH_HOURS, hour + REACH_HOURS):
        _refuse(f"--start: no coin has a candle within a day of {_iso(start_ms)}, though {span}")
    return start_ms


def _outlook(start_ms: int, history: History | None) -> dict[str, object]:
    """What `--check` says; without a history there is no end and every listing."""
    if history is None:
        return {"start": _iso(start_ms)}
    symbols = [listing_of(coin).symbol for coin in history.bars]
    return {
        "start": _iso(start_ms),
        "end": _iso(history.hours()[1] * HOUR_MS),
        "symbols": sorted(symbol for symbol in symbols if symbol),
    }


def _iso(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat()


def _arguments() -> argparse.Namespace:
    parser = _OneLineParser(
        prog="python -m sandbox",
        description="A loopback world that speaks CoinGecko, FRED, Binance and Bybit.",
        epilog="example: python -m sandbox --port 8900 --seed 7 --start 2024-06-01 --speed 3600",
    )
    parser.add_argument("--port", type=_port, default=8900, help="port on 127.0.0.1; 0 picks one")
    parser.add_argument("--seed", type=_seed, default=1, help="the world's seed")
    parser.add_argument("--replay", type=Path, help="folder of CSV history to replay")
    parser.add_argument("--speed", type=_speed, default=1.0, help="market seconds per wall second")
    parser.add_argument(
        "--start",
        type=_moment,
        help="market time at the anchor (ISO 8601, UTC); now, or 40 days into a replay",
    )
    parser.add_argument("--anchor", type=_moment, help="wall time at which it is --start; now")
    parser.add_argument(
        "--more-coins",
        type=_more_coins,
        default=0,
        help=f"coins beyond the {len(SEEDED)} of a seeded world, at most {len(REPLAYED_ONLY)}",
    )
    parser.add_argument(
        "--stream-rate",
        type=_rate,
        default=1.0,
        help="times ten messages per wall second and stream; candles keep their rhythm",
    )
    parser.add_argument(
        "--check", action="store_true", help="only try the arguments and say what they would give"
    )
    return parser.parse_args()


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return int(text)


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of zero or more")
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0 and up to 100000")
    return speed


def _more_coins(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > len(REPLAYED_ONLY):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to {len(REPLAYED_ONLY)}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 1 <= rate <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 100")
    return rate


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not an ISO 8601 date or time") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not EARLIEST <= moment < LATEST:
        raise argparse.ArgumentTypeError(f"{text} does not lie between 2000 and 2100")
    return moment


def _refuse(message: str) -> NoReturn:
    print(f"sandbox: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
