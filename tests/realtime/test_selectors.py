"""Where a topic stands, also while it is being numbered."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from realtime.selectors import topic_extent
from realtime.services import forget_old_events, publish_due_events
from tests.factories import make_alert

pytestmark = pytest.mark.django_db


@contextmanager
def between_reads(number: int, happens: Callable[[], Any]) -> Iterator[None]:
    """Let something happen after the given number of reads of the event table."""
    reads = 0

    def watch(execute, sql, params, many, context):
        nonlocal reads
        answer = execute(sql, params, many, context)
        if sql.startswith("SELECT") and '"realtime_event"' in sql:
            reads += 1
            if reads == number:
                happens()
        return answer

    with connection.execute_wrapper(watch):
        yield
    assert reads >= number


@pytest.mark.parametrize("reads", [1, 2, 3])
def test_the_first_event_of_a_topic_expires_no_cursor_while_it_is_numbered(reads):
    make_alert("first")
    with between_reads(reads, publish_due_events):
        extent = topic_extent(topic="alerts")
    assert extent.complete_after == 0
    assert extent.newest == 0


@pytest.mark.parametrize("reads", [1, 2, 3])
def test_a_later_event_expires_no_cursor_while_it_is_numbered(reads):
    make_alert("kept")
    publish_due_events()
    make_alert("later")
    with between_reads(reads, publish_due_events):
        extent = topic_extent(topic="alerts")
    assert (extent.oldest, extent.complete_after, extent.newest) == (1, 0, 1)


def test_what_was_forgotten_is_said():
    make_alert("old")
    publish_due_events()
    forget_old_events(kept_for=timedelta(0))
    extent = topic_extent(topic="alerts")
    assert (extent.oldest, extent.complete_after, extent.newest) == (None, 1, 1)
