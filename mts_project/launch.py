"""What `manage.py up` was asked for, checked before the settings exist.

The arguments decide the environment that the settings read (a demo is a world of its own: its
data folder, its providers, its clock), so `prepare` runs first, in `manage.py`. It changes
nothing before everything has been found right.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from mts_project.ending import GRACE_S
from mts_project.environment import (
    ConfigurationError,
    Environment,
    is_writable,
    load_environment,
)
from mts_project.processes import (
    FLOWER_PORT,
    Ports,
    database_complaint,
    free_port,
    parse_only,
    port_complaint,
    redis_answers,
    with_watch,
)
from signals.hosting.files import FileRefused, strategy_file_names
from signals.registry import STRATEGIES

BASE_DIR = Path(__file__).resolve().parent.parent
DEFAULT_PORT = 8000
DEMO_SEED = 7
DEMO_SPEED = 3600.0
DEMO_START = datetime(2025, 3, 3, tzinfo=UTC)
DEMO_FRED_KEY = "demodemodemodemodemodemodemodemo"
DEMO_ONLY = {"for", "replay", "start", "speed", "seed"}


@dataclass(frozen=True, kw_only=True)
class DemoWorld:
    """A sandbox and how long to watch it; `folder` is new and belongs to this demo alone.

    `end` is the market time at which a replayed history ends, None for a world without an end.
    """

    seconds: float | None
    replay: Path | None
    start: datetime
    end: datetime | None
    speed: float
    seed: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One checked start: which processes, where, and for a demo in which world.

    `began_at` and `checked_at` are the wall times before and after the checks.
    """

    names: tuple[str, ...]
    ports: Ports
    demo: DemoWorld | None
    began_at: datetime
    checked_at: datetime


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
        "--for",
        metavar="SECONDS",
        help="stop with a summary after this time, which runs once all processes are up and market "
        f"time has started; while a stage has no rows yet, up to {GRACE_S:.0f} seconds later",
    )
    demo.add_argument("--replay", metavar="DIR", help="a folder of CSV history to replay")
    demo.add_argument(
        "--start",
        metavar="DATE",
        help=f"where market time starts ({DEMO_START:%Y-%m-%d}; with --replay 40 days after the "
        "first candle)",
    )
    demo.add_argument("--speed", metavar="N", help=f"market seconds per second ({DEMO_SPEED:.0f})")
    demo.add_argument("--seed", metavar="N", help=f"of the seeded world ({DEMO_SEED})")


def plan(arguments: Sequence[str]) -> Launch:
    """Turn arguments into a checked start, and set the environment of a demo.

    Whatever can be found wrong is found here, before a folder or a process is made.

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
    names = parse_only(_or(given.only, "full"))
    world = _demo_world(given) if given.demo else None
    sandbox_port = free_port() if world else 0
    environ = _demo_environ(world.start, sandbox_port) if world else {}
    environment = load_environment(base_dir=BASE_DIR, environ={**os.environ, **environ})
    check_strategies(environment)
    if environment.watch_alerts_dir is not None:
        if not environment.watch_alerts_dir.is_dir():
            raise ConfigurationError(
                f"WATCH_ALERTS_DIR {environment.watch_alerts_dir} is not a folder"
            )
        names = with_watch(names)
    ports = _ports(given, names, environment, sandbox_port=sandbox_port)
    _check_stores(environment)
    folder = environment.data_dir
    if world:
        folder = _new_demo_folder(folder)
        world = replace(world, folder=folder)
        environ["MTS_DATA_DIR"] = str(folder)
    elif not is_writable(folder):
        raise ConfigurationError(f"MTS_DATA_DIR {folder} cannot be written")
    os.environ.update(environ)
    return Launch(
        names=names, ports=ports, demo=world, began_at=began_at, checked_at=datetime.now(UTC)
    )


def check_strategies(environment: Environment) -> None:
    """Raise ConfigurationError when ENABLED_STRATEGIES names one that does not exist, and when the
    folder of strategy files is one that nobody may run files of."""
    known_names = list(STRATEGIES)
    if environment.strategy_dir is not None:
        try:
            known_names += strategy_file_names(environment.strategy_dir)
        except FileRefused as error:
            raise ConfigurationError(str(error)) from None
    for name in environment.enabled_strategies:
        if name not in known_names:
            known = ", ".join(known_names)
            raise ConfigurationError(f"ENABLED_STRATEGIES: {name!r} is not one of {known}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="up", add_help=False, allow_abbrev=False)
    add_arguments(parser)
    # What every management command takes besides; Django reads it again.
    for flag in ("--no-color", "--force-color", "--traceback", "--skip-checks"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-v", "--verbosity", type=int, choices=range(4))
    return parser.parse_args(list(arguments))


def _demo_world(given: argparse.Namespace) -> DemoWorld:
    seconds = getattr(given, "for")
    world = DemoWorld(
        seconds=None if seconds is None else _number("--for", seconds, low=1, high=10_000_000),
        replay=None if given.replay is None else Path(given.replay).expanduser().resolve(),
        start=DEMO_START if given.start is None else _date("--start", given.start),
        end=None,
        speed=_number("--speed", _or(given.speed, DEMO_SPEED), low=0.001, high=100_000),
        seed=_whole("--seed", _or(given.seed, DEMO_SEED), low=0, high=2**31),
        folder=Path(),
    )
    if world.replay is None and given.start is None:
        return world
    start, end = _ask_sandbox(world.replay, None if given.start is None else world.start)
    if end is not None and world.seconds is not None:
        left = (end - start).total_seconds() / world.speed
        if world.seconds > left:
            raise ConfigurationError(
                f"--for: the replayed history ends {end:%Y-%m-%d %H:%M}, which is {left:.0f} s "
                f"after the start at speed {world.speed:g}"
            )
    return replace(world, start=start, end=end)


def _ask_sandbox(replay: Path | None, wanted: datetime | None) -> tuple[datetime, datetime | None]:
    """Where the sandbox would start its market time, and where a replayed history ends.

    Only the sandbox can read a replay folder, so it is asked now, long before it is started.
    Raises ConfigurationError with its one line.
    """
    command = [sys.executable, "-m", "sandbox", "--check"]
    command += [] if replay is None else ["--replay", str(replay)]
    command += [] if wanted is None else ["--start", wanted.isoformat()]
    done = subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ConfigurationError(lines[-1].removeprefix("sandbox: "))
    answer = json.loads(done.stdout)
    start = datetime.fromisoformat(answer["start"])
    if replay is None:
        return start, None
    if not answer["symbols"]:
        raise ConfigurationError(f"--replay: {replay} holds no coin that the exchanges list")
    return start, datetime.fromisoformat(answer["end"])


def _or(given: str | None, default: object) -> str:
    """An option's text, which may be empty and then is wrong, or else its default."""
    return f"{default}" if given is None else given


def _whole(name: str, text: str, *, low: int, high: int) -> int:
    if not text.lstrip("+-").isdecimal():
        raise ConfigurationError(f"{name}: {text!r} is not a whole number")
    return int(_number(name, text, low=low, high=high))


def _number(name: str, text: str, *, low: float, high: int) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ConfigurationError(f"{name}: {text!r} is not a number") from None
    if not low <= value <= high:
        raise ConfigurationError(f"{name}: {text} is outside {low} to {high}")
    return value


def _date(name: str, text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{name}: {text!r} is not a date such as 2025-03-03") from None


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
        "BINANCE_SPOT_REST_URL": f"http://{host}/binance",
        "BINANCE_SPOT_WS_URL": f"ws://{host}/binance/spot",
        "BYBIT_REST_URL": f"http://{host}/bybit",
        "BYBIT_WS_URL": f"ws://{host}/bybit/v5/public",
        "ENABLE_SIGNALS": "true",
        "ENABLE_ALERTS": "true",
        "WATCH_ALERTS_DIR": "",
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
    number = _whole("--port", _or(given.port, DEFAULT_PORT), low=1, high=65535)
    web = number if "web" in names else 0
    flower = 0
    if "flower" in names:
        flower = free_port(bind) if given.demo else FLOWER_PORT
    for name, port, hint in (
        ("the web process", web, "choose another with --port, or another address with MTS_BIND"),
        ("Flower", flower, "free it, or leave flower out with --only"),
    ):
        complaint = port_complaint(bind, port) if port else ""
        if complaint:
            raise ConfigurationError(f"port {port} on {bind} for {name} {complaint}; {hint}")
    return Ports(web=web, flower=flower, sandbox=sandbox_port)


def _check_stores(environment: Environment) -> None:
    """Raise ConfigurationError unless the stores that the environment names answer."""
    if environment.redis_url and not redis_answers(environment.redis_url):
        raise ConfigurationError("REDIS_URL: no Redis server answers there")
    if environment.database_url:
        complaint = database_complaint(environment.database_url)
        if complaint:
            raise ConfigurationError(f"DATABASE_URL: {complaint}")


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
