"""Beat follows market time where it should, wall time where it must, and never falls behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from collectors import clock
from mts_project import schedule
from mts_project.beat import HEARTBEAT_KEY, LONGEST_SLEEP_S, SHORTEST_SLEEP_S, MarketTimeScheduler
from mts_project.celery import app

# The scheduler commits and closes connections, as it must in a process that runs for months.
pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2021, 5, 13, 12, 0, 30, tzinfo=UTC)


class Scheduler(MarketTimeScheduler):
    """The real scheduler; what it would send is noted in `sent`, and is sent nowhere."""

    def __init__(self, app: Celery) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        super().__init__(app, Producer=lambda *_, **__: None)
        # Its last write at the end of the process would come after the end of the database.
        self._finalize.cancel()

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **_: Any) -> None:
        self.sent.append((entry.name, entry.options))

    def names(self) -> list[str]:
        names = [name for name, _ in self.sent]
        self.sent.clear()
        return names


class Time:
    """Wall time that the test moves."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 1, 1, tzinfo=UTC)

    def pass_(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)


@pytest.fixture
def time_(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    made = Time()
    monkeypatch.setattr(clock, "wall_now", lambda: made.wall)
    before = clock.current()
    yield made
    clock.configure(before)


def market_clock(time_: Time, *, speed: float) -> None:
    clock.configure(clock.MarketClock(start=START, anchor=time_.wall, speed=speed))


def hourly_task(**others: Any) -> PeriodicTask:
    crontab, _ = CrontabSchedule.objects.get_or_create(minute="1", hour="*", timezone="UTC")
    return PeriodicTask.objects.create(name="hourly", task="t", crontab=crontab, **others)


def sweep_task() -> PeriodicTask:
    interval, _ = IntervalSchedule.objects.get_or_create(every=5, period=IntervalSchedule.SECONDS)
    return PeriodicTask.objects.create(
        name="sweep", task="t", interval=interval, headers=json.dumps({"clock": "wall"})
    )


def started_scheduler() -> Scheduler:
    scheduler = Scheduler(app)
    scheduler.tick()
    scheduler.sent.clear()
    return scheduler


def test_a_task_that_never_ran_runs_at_once(time_: Time) -> None:
    market_clock(time_, speed=3600)
    hourly_task()
    sweep_task()
    scheduler = Scheduler(app)
    scheduler.tick()
    assert scheduler.names() == ["hourly", "sweep"]


def test_market_entries_are_due_in_market_time_and_the_sleep_is_in_wall_time(time_: Time) -> None:
    market_clock(time_, speed=60)
    hourly_task()
    scheduler = started_scheduler()
    # It is 12:00:30; 12:01 is 30 market seconds away, half a wall second.
    assert scheduler.tick() == pytest.approx(0.5, abs=1e-3)
    assert scheduler.names() == []
    time_.pass_(0.51)
    scheduler.tick()
    assert scheduler.names() == ["hourly"]
    time_.pass_(59)
    scheduler.tick()
    assert scheduler.names() == []
    time_.pass_(1)
    scheduler.tick()
    assert scheduler.names() == ["hourly"]


def test_wall_entries_do_not_care_for_market_time(time_: Time) -> None:
    market_clock(time_, speed=3600)
    sweep_task()
    scheduler = started_scheduler()
    time_.pass_(4.9)
    assert scheduler.tick() == pytest.approx(0.1, abs=1e-3)
    assert scheduler.names() == []
    time_.pass_(0.2)
    scheduler.tick()
    assert scheduler.names() == ["sweep"]


def test_one_message_for_any_number_of_missed_ticks(time_: Time) -> None:
    market_clock(time_, speed=3600)
    hourly_task()
    scheduler = started_scheduler()
    time_.pass_(1000)
    scheduler.tick()
    scheduler.tick()
    assert scheduler.names() == ["hourly"]


@pytest.mark.parametrize("speed", [1.0, 3600.0, 100_000.0])
def test_the_sleep_stays_between_its_bounds(time_: Time, speed: float) -> None:
    market_clock(time_, speed=speed)
    hourly_task()
    scheduler = started_scheduler()
    for _ in range(50):
        pause = scheduler.tick()
        assert SHORTEST_SLEEP_S <= pause <= LONGEST_SLEEP_S
        time_.pass_(pause)


def test_a_last_run_noted_under_a_later_clock_does_not_block(time_: Time) -> None:
    market_clock(time_, speed=3600)
    hourly_task(last_run_at=datetime(2026, 1, 1, tzinfo=UTC))
    scheduler = Scheduler(app)
    scheduler.tick()
    assert scheduler.names() == ["hourly"]
    scheduler.sync()
    assert PeriodicTask.objects.get(name="hourly").last_run_at == clock.now()


def test_a_restart_goes_on_where_beat_stopped(time_: Time) -> None:
    market_clock(time_, speed=3600)
    hourly_task()
    first = started_scheduler()
    first.close()
    time_.pass_(0.001)
    second = Scheduler(app)
    second.tick()
    assert second.names() == []
    time_.pass_(1)
    second.tick()
    assert second.names() == ["hourly"]


def test_noting_a_run_keeps_what_the_operator_edits_meanwhile(time_: Time) -> None:
    market_clock(time_, speed=3600)
    hourly_task()
    scheduler = started_scheduler()
    PeriodicTask.objects.filter(name="hourly").update(description="edited")
    scheduler.sync()
    row = PeriodicTask.objects.get(name="hourly")
    assert (row.description, row.total_run_count) == ("edited", 1)


def test_an_edited_schedule_is_seen(time_: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mts_project.beat.REREAD_EVERY_S", 0.0)
    market_clock(time_, speed=1)
    task = hourly_task()
    scheduler = started_scheduler()
    task.enabled = False
    task.save()
    time_.pass_(7200)
    scheduler.tick()
    scheduler.tick()
    assert scheduler.names() == []


def test_a_crontab_far_away_in_wall_time_is_not_left_out(time_: Time) -> None:
    market_clock(time_, speed=3600)
    for hour in range(24):
        crontab = CrontabSchedule.objects.create(minute="5", hour=str(hour), timezone="UTC")
        PeriodicTask.objects.create(name=f"at {hour}", task="t", crontab=crontab)
    scheduler = started_scheduler()
    names = []
    for _ in range(25):
        time_.pass_(1)
        scheduler.tick()
        names += scheduler.names()
    assert sorted(set(names)) == sorted(f"at {hour}" for hour in range(24))


def test_one_row_that_cannot_be_computed_does_not_stop_the_others(time_: Time) -> None:
    market_clock(time_, speed=3600)
    never, _ = CrontabSchedule.objects.get_or_create(
        minute="0", hour="0", day_of_month="31", month_of_year="2", timezone="UTC"
    )
    PeriodicTask.objects.create(name="a never", task="t", crontab=never)
    hourly_task()
    scheduler = started_scheduler()
    time_.pass_(1)
    scheduler.tick()
    assert "hourly" in scheduler.names()


def test_messages_expire_when_the_next_is_due_so_that_hints_do_not_pile_up(time_: Time) -> None:
    market_clock(time_, speed=1)
    hourly_task()
    sweep_task()
    scheduler = Scheduler(app)
    scheduler.tick()
    expiry = {name: options["expires"] for name, options in scheduler.sent}
    assert expiry["sweep"] == 10.0
    assert expiry["hourly"] == pytest.approx(30.0, abs=0.1)
    assert all("clock" not in options["headers"] for _, options in scheduler.sent)


def test_beat_shows_that_it_lives(time_: Time, redis_client: redis.Redis) -> None:
    market_clock(time_, speed=3600)
    started_scheduler()
    assert redis_client.get(HEARTBEAT_KEY) == time_.wall.isoformat().encode()
    assert 0 < redis_client.ttl(HEARTBEAT_KEY) <= 30


def test_seeding_twice_changes_nothing_and_keeps_the_operators_edits() -> None:
    assert schedule.seed_schedule() == len(schedule.periodic_seeds())
    PeriodicTask.objects.filter(name="collect hourly").update(enabled=False, args='["x"]')
    assert schedule.seed_schedule() == 0
    row = PeriodicTask.objects.get(name="collect hourly")
    assert (row.enabled, row.args) == (False, '["x"]')


def test_every_seeded_task_exists() -> None:
    app.loader.import_default_modules()
    missing = {seed.task for seed in schedule.periodic_seeds()} - set(app.tasks)
    assert not missing


def test_the_seeded_table_runs(time_: Time) -> None:
    market_clock(time_, speed=3600)
    schedule.seed_schedule()
    scheduler = Scheduler(app)
    scheduler.tick()
    assert sorted(scheduler.names()) == sorted(seed.name for seed in schedule.periodic_seeds())
    time_.pass_(5.5)
    scheduler.tick()
    names = scheduler.names()
    assert {"collect hourly", "collect high frequency", "sweep bar runs"} <= set(names)
    assert "flush provider calls" not in names
