"""What `manage.py up` was asked for, checked before the settings exist.

The arguments decide the environment that the settings read (a demo is a world of its own: its
data folder, its providers, its clock), so `prepare` runs first, in `manage.py`. It changes
nothing before everything has been found right.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from mts_project.environment import ConfigurationError, Environment, load_environment
from mts_project.processes import FLOWER_PORT, Ports, free_port, parse_only, port_is_taken

BASE_DIR = Path(__file__).resolve().parent.parent
DEFAULT_PORT = 8000
DEMO_SEED = 7
DEMO_SPEED = 3600.0
DEMO_START = datetime(2025, 3, 3, tzinfo=UTC)
# Replayed history needs some bars before the start, for the strategies to look back on.
REPLAY_LEAD = timedelta(days=40)
DEMO_FRED_KEY = "demodemodemodemodemodemodemodemo"
DEMO_ONLY = {"for", "replay", "start", "speed", "seed"}


@dataclass(frozen=True, kw_only=True)
class DemoWorld:
    """A sandbox and how long to watch it; `folder` is new and belongs to this demo alone."""

    seconds: float | None
    replay: Path | None
    start: datetime
    speed: float
    seed: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One checked start: which processes, where, and for a demo in which world."""

    names: tuple[str, ...]
    ports: Ports
    demo: DemoWorld | None
    began_at: datetime


_current: Launch | None = None


def current() -> Launch | None:
    """The start that this process was made for; None when it did not come by `manage.py up`."""
    return _current


def prepare(arguments: Sequence[str]) -> None:
    """Check the arguments of `up` and set the environment that they ask for.

    Wrong ones end the process: one line on stderr, exit code 2.
    """
    global _current
    if "--help" in arguments or "-h" in arguments:
        return
    try:
        _current = plan(arguments)
    except ConfigurationError as error:
        print(f"up: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `up`."""
    parser.add_argument(
        "--only",
        metavar="NAMES",
        help="separated by commas: web, worker:collect, worker:signals, worker:trading, "
        "worker:alerts, worker:backtests, beat, stream, flower; or full, api, collector, signals",
    )
    parser.add_argument("--port", metavar="N", help=f"of the web process ({DEFAULT_PORT})")
    parser.add_argument(
        "--demo", action="store_true", help="a sandbox in place of the providers, and a new world"
    )
    demo = parser.add_argument_group("with --demo")
    demo.add_argument(
        "--for", metavar="SECONDS", help="stop this long after the market start, with a summary"
    )
    demo.add_argument("--replay", metavar="DIR", help="a folder of CSV history to replay")
    demo.add_argument(
        "--start",
        metavar="DATE",
        help=f"where market time starts ({DEMO_START:%Y-%m-%d}; with --replay {REPLAY_LEAD.days} "
        "days after the first candle)",
    )
    demo.add_argument("--speed", metavar="N", help=f"market seconds per second ({DEMO_SPEED:.0f})")
    demo.add_argument("--seed", metavar="N", help=f"of the seeded world ({DEMO_SEED})")


def plan(arguments: Sequence[str]) -> Launch:
    """Turn arguments into a checked start, and set the environment of a demo.

    Raises ConfigurationError with one line that names what is wrong; then nothing has changed.
    """
    began_at = datetime.now(UTC)
    given = _parse(arguments)
    if not given.demo:
        for name in sorted(DEMO_ONLY):
            if getattr(given, name) is not None:
                raise ConfigurationError(f"--{name} needs --demo")
    elif given.only:
        raise ConfigurationError("--only is not for a demo: it needs all processes")
    names = parse_only(given.only or "full")
    world = _demo_world(given) if given.demo else None
    sandbox_port = free_port() if world else 0
    environ = _demo_environ(world.start, sandbox_port) if world else {}
    environment = load_environment(base_dir=BASE_DIR, environ={**os.environ, **environ})
    ports = _ports(given, names, environment, sandbox_port=sandbox_port)
    folder = environment.data_dir
    if world:
        folder = _new_demo_folder(folder)
        world = replace(world, folder=folder)
        environ["MTS_DATA_DIR"] = str(folder)
    _check_writable(folder)
    os.environ.update(environ)
    return Launch(names=names, ports=ports, demo=world, began_at=began_at)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="up", add_help=False, allow_abbrev=False)
    add_arguments(parser)
    # What every management command takes besides; Django reads it again.
    for flag in ("--no-color", "--force-color", "--traceback", "--skip-checks"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-v", "--verbosity")
    return parser.parse_args(list(arguments))


def _demo_world(given: argparse.Namespace) -> DemoWorld:
    replay = None if given.replay is None else Path(given.replay).expanduser().resolve()
    if replay is not None and not replay.is_dir():
        raise ConfigurationError(f"--replay: {given.replay} is not a folder")
    seconds = getattr(given, "for")
    return DemoWorld(
        seconds=None if seconds is None else _number("--for", seconds, low=1, high=1e7),
        replay=replay,
        start=_start(given.start, replay),
        speed=_number("--speed", given.speed or f"{DEMO_SPEED}", low=0.001, high=100_000),
        seed=_whole("--seed", given.seed or f"{DEMO_SEED}", low=0, high=2**31),
        folder=Path(),
    )


def _whole(name: str, text: str, *, low: int, high: int) -> int:
    if not text.lstrip("+-").isdecimal():
        raise ConfigurationError(f"{name}: {text!r} is not a whole number")
    return int(_number(name, text, low=low, high=high))


def _number(name: str, text: str, *, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ConfigurationError(f"{name}: {text!r} is not a number") from None
    if not low <= value <= high:
        raise ConfigurationError(f"{name}: {text} is outside {low:g} to {high:g}")
    return value


def _start(text: str | None, replay: Path | None) -> datetime:
    if text is None:
        return DEMO_START if replay is None else _first_candle(replay) + REPLAY_LEAD
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--start: {text!r} is not a date such as 2025-03-03") from None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _first_candle(replay: Path) -> datetime:
    """The earliest open time over the first rows of the folder's candle files."""
    files = sorted([*replay.glob("*_1h.csv"), *replay.glob("*_1h.csv.gz")])
    if not files:
        raise ConfigurationError(f"--replay: {replay} has no candle file (COIN_1h.csv[.gz])")
    return min(_first_open_time(path) for path in files)


def _first_open_time(path: Path) -> datetime:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as stream:
            row = next(csv.DictReader(stream))
        value = datetime.fromisoformat(row["open_time"])
    except StopIteration:
        raise ConfigurationError(f"--replay: {path} has no candle") from None
    except KeyError:
        raise ConfigurationError(f"--replay: {path}, line 1: no column open_time") from None
    except (OSError, EOFError, TypeError, ValueError, csv.Error) as error:
        raise ConfigurationError(f"--replay: {path}, line 2: {error}") from None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _demo_environ(start: datetime, sandbox_port: int) -> dict[str, str]:
    """A world of its own: nothing of the real installation is read or written, nobody is told.

    Until the processes start, market time stands a little before the start, at normal speed.
    """
    host = f"127.0.0.1:{sandbox_port}"
    anchor = datetime.now(UTC) + timedelta(minutes=1)
    return {
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "SECRET_KEY": "",
        "ENVIRONMENT": "development",
        "COINGECKO_BASE_URL": f"http://{host}/coingecko/api/v3",
        "COINGECKO_API_KEY": "",
        "COINGECKO_PLAN": "none",
        "FRED_BASE_URL": f"http://{host}/fred/fred",
        "FRED_API_KEY": DEMO_FRED_KEY,
        "BINANCE_REST_URL": f"http://{host}/binance",
        "BINANCE_WS_URL": f"ws://{host}/binance",
        "BYBIT_REST_URL": f"http://{host}/bybit",
        "BYBIT_WS_URL": f"ws://{host}/bybit/v5/public",
        "ENABLE_SIGNALS": "true",
        "ENABLE_ALERTS": "true",
        "DISCORD_WEBHOOK_URL": "",
        "ALERT_WEBHOOK_URL": "",
        "ALERT_EMAIL_TO": "",
        "EMAIL_URL": "",
        "MTS_CLOCK_START": start.isoformat(),
        "MTS_CLOCK_ANCHOR": anchor.isoformat(),
        "MTS_CLOCK_SPEED": "1",
    }


def _ports(
    given: argparse.Namespace,
    names: tuple[str, ...],
    environment: Environment,
    *,
    sandbox_port: int,
) -> Ports:
    bind = environment.bind
    number = _whole("--port", given.port or f"{DEFAULT_PORT}", low=1, high=65535)
    web = number if "web" in names else 0
    flower = 0
    if "flower" in names:
        flower = free_port(bind) if given.demo else FLOWER_PORT
    for name, port in (("the web process", web), ("Flower", flower)):
        if port and port_is_taken(bind, port):
            hint = "; choose another with --port" if port == web else ""
            raise ConfigurationError(f"port {port} on {bind} for {name} is taken{hint}")
    return Ports(web=web, flower=flower, sandbox=sandbox_port)


def _new_demo_folder(data_dir: Path) -> Path:
    """Make the folder of a new demo below the data folder; never one that exists."""
    stamp = datetime.now(UTC).strftime("demo-%Y%m%d-%H%M%S")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        for number in range(1, 100):
            folder = data_dir / (stamp if number == 1 else f"{stamp}_{number}")
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise ConfigurationError(f"MTS_DATA_DIR {data_dir} cannot be written: {error}") from None
    raise ConfigurationError(f"{data_dir} already has 99 demos of this second")


def _check_writable(folder: Path) -> None:
    """Raise ConfigurationError unless files can be made below `folder`, which may not exist yet."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigurationError(f"MTS_DATA_DIR {folder} cannot be written")
