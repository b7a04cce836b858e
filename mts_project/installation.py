"""The processes of one machine from the first to the last: what starts after what, and the end."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from threading import Thread
from types import FrameType

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, close_old_connections, connection

from collectors import clock
from mts_project import pipeline
from mts_project.celery import app
from mts_project.diagnosis import Finding, missing_keys, provider_checks
from mts_project.ending import Ending
from mts_project.environment import ConfigurationError, make_folder, private_socket
from mts_project.launch import BASE_DIR, DemoWorld, Launch
from mts_project.liveview import Screen
from mts_project.login import ensure_login
from mts_project.processes import (
    FLOWER_USER,
    flower_password,
    product_specs,
    redis_answers,
    redis_spec,
    sandbox_spec,
)
from mts_project.report import write_report
from mts_project.seeding import seed_everything
from mts_project.summary import Summary, summary_table, take_summary
from mts_project.supervisor import ProcessSpec, StartError, Supervisor
from mts_project.watchdog import Watchdog

TEND_EVERY_S = 0.1
READY_TIMEOUT_S = 20.0
SANDBOX_TIMEOUT_S = 30.0
# The processes of a demo come up before market time reaches its start; the first bar waits for
# what is left of their history. How long that takes on this machine follows from how long this
# process took to come so far, without the reading of a replayed history.
WARM_UP_RATIO = 5.0
SHORTEST_WARM_UP = timedelta(seconds=7)
LONGEST_WARM_UP = timedelta(seconds=30)
COLLECTING = {"worker:io", "worker:collect"}
DEMO_USER = "demo"
PREPARATION_LOCK = 0x4D5453  # any number that nothing else locks
INTERRUPTED = 130
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP while something is being done that may be broken off."""


class Installation:
    """Starts, watches and ends the processes that a `Launch` asks for."""

    def __init__(self, asked: Launch, *, screen: Screen) -> None:
        self._asked = asked
        self._screen = screen
        self._is_stopping = False
        self._may_break_off = False
        log_dir = settings.DATA_DIR / "logs"
        make_folder(log_dir)
        self._supervisor = Supervisor(log_dir=log_dir, cwd=BASE_DIR, say=screen.say)

    def run(self) -> int:
        """Everything, in order. Returns the exit code: 0, 1 (a demo that failed), 2 or 130."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_stop)
        demo = self._asked.demo
        try:
            with self._breakable():
                if demo is not None:
                    self._begin_demo(demo)
                self._prepare_stores()
                password = "" if demo is None else _demo_login()
            self._start_processes()
            if self._is_stopping:
                raise StopRequested
            self._announce(password)
        except StopRequested:
            self._stop()
            return INTERRUPTED
        except (ConfigurationError, StartError) as error:
            return self._give_up(error)
        summary = self._watch()
        if demo is None or summary is None:
            return 0
        return self._conclude(summary, demo)

    def _begin_demo(self, demo: DemoWorld) -> None:
        """The clock, the world, and the processes that can come up while tables are made.

        Only a demo's Redis is sure to hold no task of an earlier start that would miss them.
        """
        self._start_private_redis()
        anchor = start_clock(demo, began_at=self._asked.checked_at)
        self._start(
            sandbox_spec(
                port=self._asked.ports.sandbox,
                seed=demo.seed,
                speed=demo.speed,
                start=demo.start,
                anchor=anchor,
                replay=demo.replay,
            )
        )
        for spec in self._specs():
            if spec.name == "web" or spec.name.startswith("worker:"):
                self._start(spec)

    def _specs(self) -> list[ProcessSpec]:
        return product_specs(
            self._asked.names,
            bind=settings.ENV.bind,
            ports=self._asked.ports,
            data_dir=settings.DATA_DIR,
        )

    def _prepare_stores(self) -> None:
        try:
            with only_one_machine():
                call_command("migrate", verbosity=0, interactive=False)
                self._start_private_redis()
                seed_everything()
        except DatabaseError as error:
            words = " ".join(str(error).split())
            raise ConfigurationError(f"the database cannot be used: {words}") from None
        connection.close()

    def _start_private_redis(self) -> None:
        if not settings.ENV.redis_url and not redis_answers(settings.REDIS_URL):
            socket_path = private_socket(settings.DATA_DIR)
            spec = redis_spec(socket_path, append_dir=settings.DATA_DIR / "redis")
            self._start(spec, ready_within_s=READY_TIMEOUT_S)

    def _start_processes(self) -> None:
        if COLLECTING.intersection(self._asked.names):
            # What is missing since the last time; the message waits for its worker.
            app.send_task("collectors.tasks.backfill_all")
        running = {state.name for state in self._supervisor.states()}
        for spec in (each for each in self._specs() if each.name not in running):
            if spec.name == "flower":
                # It only watches: the others have the machine to themselves until they are up.
                self._wait_for_others()
            self._start(spec)
        self._wait_for_others()

    def _announce(self, password: str) -> None:
        data_dir, demo = settings.DATA_DIR, self._asked.demo
        if "flower" in self._asked.names:
            self._screen.say(
                f"Flower login: {FLOWER_USER} / {flower_password(data_dir)} "
                f"(kept in {data_dir / 'flower_password'})"
            )
        if demo is not None:
            world = f"replay of {demo.replay}" if demo.replay else f"seeded world {demo.seed}"
            self._screen.say(
                f"{world} from {demo.start:%Y-%m-%d %H:%M} at speed {demo.speed:g}; "
                f"its data is in {data_dir}"
            )
            warm_up = clock.current().wall(demo.start) - clock.wall_now()
            if warm_up > timedelta(0):
                self._screen.say(
                    f"history is fetched first: market time starts in {warm_up.seconds + 1} s"
                )
            web = next(state for state in self._supervisor.states() if state.name == "web")
            self._screen.say(f"dashboard {web.address}  user {DEMO_USER}  password {password}")
        elif "web" in self._asked.names and not get_user_model().objects.exists():
            self._screen.say("nobody can log in yet: manage.py createsuperuser")
        for name in missing_keys():
            self._screen.say(f"{name}; the rest runs")
        if demo is None and {*COLLECTING, "stream"} & set(self._asked.names):
            for check in provider_checks():
                # They wait for the network, and nothing waits for them: not even the end.
                Thread(target=self._name_unreachable, args=(check,), daemon=True).start()

    def _name_unreachable(self, check: Callable[[], Finding]) -> None:
        finding = check()
        if finding.state != "ok":
            self._screen.say(f"{finding.name}: {finding.detail}; the rest runs")

    def _watch(self) -> Summary | None:
        """Until the end; a demo's summary is taken when every process is down."""
        demo = self._asked.demo
        watchdog = Watchdog(self._supervisor, app)
        watchdog.start()
        ending = None if demo is None else self._ending_of(demo)
        try:
            with self._screen:
                while not self._is_stopping and not (ending and ending.is_over(_wall_s())):
                    self._supervisor.tend()
                    if self._screen.is_due():
                        self._look()
                    time.sleep(TEND_EVERY_S)
            if demo is None:
                return None
            quotes, end = pipeline.live_quotes(), clock.now()
        finally:
            watchdog.close()
            self._screen.say("stopping")
            self._stop()
        return take_summary(
            began_at=self._asked.began_at,
            market_start=demo.start,
            market_end=end,
            live_quotes=quotes,
        )

    def _ending_of(self, demo: DemoWorld) -> Ending | None:
        """The end of a demo's time: it runs once market time does and the processes are up."""
        if demo.seconds is None:
            return None
        wall = clock.current().wall
        return Ending(
            starts_at=max(wall(demo.start).timestamp(), _wall_s()),
            seconds=demo.seconds,
            latest=math.inf if demo.end is None else wall(demo.end).timestamp(),
            empty_stages=_empty_stages,
            say=self._screen.say,
        )

    def _look(self) -> None:
        # A database that is away for a moment is no reason to end what is supervised.
        with suppress(DatabaseError):
            close_old_connections()
            self._screen.show(pipeline.progress(), self._supervisor.states())

    def _conclude(self, summary: Summary, demo: DemoWorld) -> int:
        self._screen.console.print(summary_table(summary))
        path = write_report(summary, folder=settings.DATA_DIR / "reports")
        self._screen.say(f"report {path}")
        if demo.seconds is None:
            return 0
        if self._is_stopping:
            return INTERRUPTED
        for failure in summary.failures:
            print(f"up: {failure}", file=sys.stderr)
        return 1 if summary.failures else 0

    def _give_up(self, error: Exception) -> int:
        """Bad input or a process that cannot start: one line, and no new folder is left."""
        self._stop()
        connection.close()
        demo = self._asked.demo
        if demo is not None:
            shutil.rmtree(demo.folder, ignore_errors=True)
            with suppress(OSError):
                demo.folder.parent.rmdir()
        print(f"up: {error}", file=sys.stderr)
        return 2

    def _stop(self) -> None:
        self._supervisor.stop()
        # The folder of the private Redis' socket, where it had to lie outside of the data folder.
        with suppress(OSError):
            private_socket(settings.DATA_DIR).parent.rmdir()

    def _start(self, spec: ProcessSpec, *, ready_within_s: float | None = None) -> None:
        pid = self._supervisor.start(spec)
        if ready_within_s is not None:
            self._wait_ready(spec.name, ready_within_s)
        self._screen.say(f"{spec.name:16} pid {pid:<8} {spec.address}")

    def _wait_ready(self, name: str, timeout_s: float) -> None:
        self._supervisor.wait_ready(
            name, timeout_s=timeout_s, is_stopping=lambda: self._is_stopping
        )

    def _wait_for_others(self) -> None:
        if self._asked.demo is not None:
            self._wait_ready("sandbox", SANDBOX_TIMEOUT_S)
        if "web" in self._asked.names:
            # Should it fail, it is started again like any other.
            with suppress(StartError):
                self._wait_ready("web", READY_TIMEOUT_S)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        if self._may_break_off:
            self._may_break_off = False
            raise StopRequested

    @contextmanager
    def _breakable(self) -> Iterator[None]:
        """A stop signal breaks off what is done inside, instead of waiting for its end."""
        self._may_break_off = True
        try:
            yield
        finally:
            self._may_break_off = False


@contextmanager
def only_one_machine() -> Iterator[None]:
    """Machines that start together on one PostgreSQL migrate and seed it one after another."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [PREPARATION_LOCK])
    try:
        yield
    finally:
        # The server lets go of it by itself when this connection is lost.
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [PREPARATION_LOCK])


def start_clock(demo: DemoWorld, *, began_at: datetime) -> datetime:
    """Let market time run, in this process and in all that are started from now on.

    Returns the anchor, the wall moment at which it is the demo's start. `began_at` is when this
    process began to make it run (wall time).
    """
    warm_up = (clock.wall_now() - began_at) * WARM_UP_RATIO
    anchor = clock.wall_now() + min(max(warm_up, SHORTEST_WARM_UP), LONGEST_WARM_UP)
    os.environ["MTS_CLOCK_ANCHOR"] = anchor.isoformat()
    os.environ["MTS_CLOCK_SPEED"] = f"{demo.speed:g}"
    clock.configure(clock.MarketClock(start=demo.start, anchor=anchor, speed=demo.speed))
    return anchor


def _wall_s() -> float:
    return clock.wall_now().timestamp()


def _empty_stages() -> list[str]:
    """The stages that have no row; none where the database cannot be asked: the end tells."""
    with suppress(DatabaseError):
        counts = pipeline.stage_counts(live_quotes=pipeline.live_quotes())
        return [stage for stage, count in counts.items() if count == 0]
    return []


def _demo_login() -> str:
    """Make the demo's user, who may do everything, with a random password."""
    password = secrets.token_urlsafe(9)
    ensure_login(username=DEMO_USER, password=password, is_superuser=True)
    return password
