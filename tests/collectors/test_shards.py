"""Two processes never hold the same shard, whatever is done to them and to their database."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg2
import pytest
from django.db import connection

from collectors.selectors import ShardHolding, shard_holding
from collectors.services.shards import ShardKeeper
from collectors.sharding import fair_share, shard_of, surplus
from tests.plugins.children import log_tail

PROJECT = Path(__file__).resolve().parents[2]
SHARDS = 8
ALL = frozenset(range(SHARDS))
LONGEST_WAIT_S = 45.0
# Readings further apart say nothing about the time between them.
DENSE_S = 0.1


class Reading(NamedTuple):
    """What a process held at some time between two readings of the clock."""

    before: float
    after: float
    held: frozenset[int]


class Keeper:
    """A process that keeps shards, and what it wrote down."""

    def __init__(self, child: "subprocess.Popen[bytes]", log: Path) -> None:
        self.child = child
        self._log = log
        self._readings: list[Reading] = []
        self._read_until = 0

    def readings(self) -> list[Reading]:
        """All so far; each line is read once."""
        if self._log.exists():
            with self._log.open() as stream:
                stream.seek(self._read_until)
                *lines, rest = stream.read().split("\n")  # the last may be half written
                self._read_until = stream.tell() - len(rest)
            for line in lines:
                before, after, numbers = line.split(" ")
                held = frozenset(int(number) for number in numbers.split(",") if number)
                self._readings.append(Reading(float(before), float(after), held))
        return self._readings

    def held(self) -> frozenset[int]:
        """What it holds now, by its newest reading."""
        readings = self.readings()
        return readings[-1].held if readings else frozenset()

    def send(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def spans(self, shard: int) -> list[tuple[float, float]]:
        """When it certainly held the shard: runs of dense readings that all say so."""
        found: list[tuple[float, float]] = []
        is_open = False
        for reading in self.readings():
            if reading.after - reading.before > DENSE_S:
                # It slept between clock and answer: when the answer was true is not known.
                is_open = False
            elif shard in reading.held:
                if is_open and reading.before - found[-1][1] < DENSE_S:
                    found[-1] = (found[-1][0], reading.before)
                else:
                    found.append((reading.after, reading.after))
                is_open = True
            else:
                is_open = False
        return found


class Keepers:
    """Processes over one database."""

    def __init__(self, folder: Path, database: str, lease_s: float) -> None:
        self._folder = folder
        self._environment = {**os.environ, "DATABASE_URL": database}
        self._environment["DJANGO_SETTINGS_MODULE"] = "mts_project.settings"
        self._lease_s = lease_s
        self.started: list[Keeper] = []

    def start(self, *, confirms: bool = True) -> Keeper:
        number = len(self.started)
        log = self._folder / f"held-{number}"
        words = ["keep", log, SHARDS, self._lease_s, confirms]
        keeper = Keeper(self._spawn(f"process-{number}", *words), log)
        self.started.append(keeper)
        return keeper

    def make_tables(self) -> None:
        assert self._spawn("tables", "tables").wait() == 0, self.said("tables")

    def said(self, name: str) -> str:
        return log_tail(self._folder / name)

    def _spawn(self, name: str, *words: object) -> "subprocess.Popen[bytes]":
        with (self._folder / name).open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.collectors.shard_process", *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=PROJECT,
                env=self._environment,
                start_new_session=True,
            )

    def wait_until(
        self, condition: Callable[[], object], *, seconds: float = LONGEST_WAIT_S
    ) -> float:
        """How long it took."""
        started = time.monotonic()
        while not condition():
            said = [self.said(f"process-{number}") for number in range(len(self.started))]
            held = [sorted(keeper.held()) for keeper in self.started]
            assert time.monotonic() < started + seconds, (held, said)
            time.sleep(0.05)

    def share_all(self, *keepers: Keeper) -> bool:
        """Whether these hold all shards, each at most its fair share."""
        held = [keeper.held() for keeper in keepers]
        most = fair_share(shards=SHARDS, processes=len(keepers))
        return sum(map(len, held)) == SHARDS and max(map(len, held)) <= most

    def check(self) -> None:
        """No shard was ever held by two, and every shard was held."""
        assert all(len(keeper.readings()) > 100 for keeper in self.started)
        for shard in ALL:
            spans = sorted(
                (*span, number)
                for number, keeper in enumerate(self.started)
                for span in keeper.spans(shard)
            )
            assert spans, f"nobody ever held shard {shard}"
            for (_, until, one), (since, _, other) in pairwise(spans):
                assert since >= until, f"shard {shard} was held by {one} and {other}"


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the tables of the shards."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shards.sqlite3'}"
    request.getfixturevalue("transactional_db")
    return url_of_the_test()


def url_of_the_test() -> str:
    """The URL of the database that the test sees as its own."""
    url = urlsplit(os.environ["DATABASE_URL"])
    return url._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


@contextmanager
def keepers_over(database: str, folder: Path, lease_s: float) -> Iterator[Keepers]:
    """Processes over the database, all ended at the end."""
    made = Keepers(folder, database, lease_s)
    try:
        if database.startswith("sqlite"):
            made.make_tables()
        yield made
    finally:
        for keeper in made.started:
            keeper.child.kill()
            keeper.child.wait()


def test_newcomers_get_their_share_and_the_shards_of_a_killed_one_are_taken_at_once(
    database: str, tmp_path: Path
) -> None:
    # Nobody waits for a lease to expire: it lasts longer than the test.
    with keepers_over(database, tmp_path, lease_s=120.0) as keepers:
        first = keepers.start()
        keepers.wait_until(lambda: first.held() == ALL)
        alone = next(each.after for each in first.readings() if each.held == ALL)
        assert alone - first.readings()[0].before < 5
        second, third = keepers.start(), keepers.start()
        keepers.wait_until(lambda: keepers.share_all(first, second, third))
        second.send(signal.SIGKILL)
        keepers.wait_until(lambda: keepers.share_all(first, third), seconds=20)
        third.send(signal.SIGTERM)
        keepers.wait_until(lambda: first.held() == ALL, seconds=20)
        keepers.check()


def test_who_was_paused_for_longer_than_its_lease_notices_first(
    database: str, tmp_path: Path
) -> None:
    with keepers_over(database, tmp_path, lease_s=5.0) as keepers:
        paused, other = keepers.start(), keepers.start()
        keepers.wait_until(lambda: keepers.share_all(paused, other))
        paused.send(signal.SIGSTOP)
        stopped_at = time.monotonic()
        keepers.wait_until(lambda: other.held() == ALL)
        # It lives as far as anybody can see, so that its lease has to expire.
        assert other.readings()[-1].after - stopped_at > 2
        paused.send(signal.SIGCONT)
        keepers.wait_until(lambda: paused.readings()[-1].before > stopped_at + 2)
        woken = next(each for each in paused.readings() if each.before > stopped_at + 2)
        assert not woken.held
        keepers.wait_until(lambda: keepers.share_all(paused, other))
        keepers.check()


@pytest.mark.django_db(transaction=True)
def test_nobody_streams_on_while_the_database_is_away_and_everybody_does_again(
    tmp_path: Path,
) -> None:
    with keepers_over(url_of_the_test(), tmp_path, lease_s=6.0) as keepers:
        one, two = keepers.start(), keepers.start()
        keepers.wait_until(lambda: keepers.share_all(one, two))
        with database_away():
            gone_at = time.monotonic()
            keepers.wait_until(lambda: not one.held() and not two.held(), seconds=8)
            time.sleep(max(0.0, gone_at + 10 - time.monotonic()))
            assert not one.held() and not two.held()
        keepers.wait_until(lambda: keepers.share_all(one, two))
        assert one.child.poll() is two.child.poll() is None
        keepers.check()


@contextmanager
def database_away() -> Iterator[None]:
    """Nobody but this test can reach its database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        own_pid = cursor.fetchone()[0]
    name = connection.settings_dict["NAME"]
    quoted = connection.ops.quote_name(name)
    # From another database: one's own cannot be closed to others.
    with contextlib.closing(psycopg2.connect(os.environ["DATABASE_URL"])) as outside:
        outside.autocommit = True
        cursor = outside.cursor()
        try:
            cursor.execute(f"ALTER DATABASE {quoted} WITH ALLOW_CONNECTIONS false")
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = %s AND pid <> %s",
                [name, own_pid],
            )
            assert cursor.fetchone()[0] >= 2
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {quoted} WITH ALLOW_CONNECTIONS true")


@pytest.mark.django_db(transaction=True)
def test_what_nobody_confirms_is_given_up_when_the_lease_ends(tmp_path: Path) -> None:
    with keepers_over(url_of_the_test(), tmp_path, lease_s=5.0) as keepers:
        silent = keepers.start(confirms=False)
        keepers.wait_until(lambda: silent.held() == ALL)
        newcomer = keepers.start()
        keepers.wait_until(lambda: keepers.share_all(silent, newcomer))
        readings = silent.readings()
        full = next(number for number, each in enumerate(readings) if each.held == ALL)
        given_up = next(each.after for each in readings[full:] if each.held != ALL)
        taken = next(each.before for each in newcomer.readings() if each.held)
        assert taken - given_up > 0.5
        keepers.check()


def test_an_instrument_has_one_shard_in_every_process_and_release() -> None:
    # The check value of CRC-32: what every implementation makes of these nine digits.
    assert shard_of("123456789", 1 << 32) == 0xCBF43926
    spread = Counter(shard_of(f"coin-{number}", SHARDS) for number in range(8000))
    assert set(spread) == ALL
    assert max(spread.values()) < 1.2 * min(spread.values())


@pytest.mark.parametrize("shards", [1, 7, 8, 64])
@pytest.mark.parametrize("processes", [1, 2, 3, 8, 9])
def test_fair_shares_hold_all_shards(shards: int, processes: int) -> None:
    share = fair_share(shards=shards, processes=processes)
    assert share * processes >= shards
    assert (share - 1) * processes < shards
    assert len(surplus(range(shards), share=share)) == shards - share


@pytest.mark.django_db(transaction=True)
def test_another_spread_waits_until_nobody_streams_the_old_one() -> None:
    old, new = ShardKeeper(shards=4), ShardKeeper(shards=6)
    old.start()
    try:
        assert old.wait(10)
        assert old.held() == frozenset(range(4))
        new.start()
        assert new.wait(10)
        assert new.held() == frozenset()
        # What the old one gave up for the newcomer, it has not confirmed.
        assert shard_holding() == ShardHolding(shards=4, held=4, processes=2)
    finally:
        old.stop(10)
    deadline = time.monotonic() + 10
    while new.held() != frozenset(range(6)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert shard_holding() == ShardHolding(shards=6, held=6, processes=1)
    new.stop(10)
    assert not new.held()
    assert shard_holding() == ShardHolding(shards=6, held=0, processes=0)


@pytest.mark.django_db(transaction=True)
def test_changes_are_told_and_a_listener_that_fails_costs_nothing() -> None:
    told: list[int] = []

    def listen() -> None:
        told.append(1)
        raise ValueError("not a good listener")

    keeper = ShardKeeper(shards=3, on_change=listen)
    assert not keeper.holds("bitcoin")
    keeper.start()
    assert keeper.wait(10)
    deadline = time.monotonic() + 10
    while not told:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert keeper.holds("bitcoin")
    keeper.stop(10)
    assert told == [1]
    assert not keeper.holds("bitcoin")
