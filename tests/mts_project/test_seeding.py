"""What a new installation holds, however often and by however many machines it is seeded."""

from __future__ import annotations

import pytest
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from collectors.models import Instrument
from mts_project.schedule import periodic_seeds, seed_schedule
from mts_project.seeding import seed_everything
from trading.models import Account

pytestmark = pytest.mark.django_db


def test_seeding_again_adds_nothing_and_keeps_what_an_operator_changed() -> None:
    seed_everything()
    PeriodicTask.objects.filter(name="collect hourly").update(enabled=False)
    Instrument.objects.filter(coin_id="bitcoin").update(is_enabled=False)
    counts = [model.objects.count() for model in (PeriodicTask, Instrument, Account)]
    seed_everything()
    assert [model.objects.count() for model in (PeriodicTask, Instrument, Account)] == counts
    assert not PeriodicTask.objects.get(name="collect hourly").enabled
    assert not Instrument.objects.get(coin_id="bitcoin").is_enabled


def test_equal_rows_in_the_schedules_tables_stop_nothing() -> None:
    seed_schedule()
    PeriodicTask.objects.all().delete()
    for model in (IntervalSchedule, CrontabSchedule):
        for row in model.objects.all():
            row.pk = None
            row.save()
    assert seed_schedule() == len(periodic_seeds())


def test_a_row_of_a_task_that_is_gone_or_moved_goes_too() -> None:
    seed_schedule()
    interval = IntervalSchedule.objects.first()
    PeriodicTask.objects.create(
        name="flush provider calls",
        task="collectors.tasks.flush_provider_calls",
        interval=interval,
    )
    PeriodicTask.objects.create(
        name="reconcile accounts", task="trading.tasks.reconcile_accounts", interval=interval
    )
    assert seed_schedule() == 0
    assert PeriodicTask.objects.count() == len(periodic_seeds())
