"""A lease that is renewed from a thread while work runs."""

import threading
import time

import pytest
from django.db import OperationalError

from collectors.renewal import renewing


def test_a_database_that_is_away_for_a_moment_does_not_end_the_renewing() -> None:
    calls: list[float] = []
    enough = threading.Event()

    def renew() -> None:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise OperationalError("away")
        if len(calls) == 3:
            enough.set()

    with renewing(renew, every_s=0.01, name="lease-of-a-test"):
        assert enough.wait(10)
    after = len(calls)
    time.sleep(0.05)
    assert len(calls) == after
    assert "lease-of-a-test" not in {thread.name for thread in threading.enumerate()}


def test_a_failure_of_the_work_ends_the_renewing_and_is_raised() -> None:
    calls: list[int] = []
    work = renewing(lambda: calls.append(1), every_s=0.01, name="lease-that-breaks")
    with pytest.raises(ValueError, match="the work"), work:
        raise ValueError("the work")
    assert "lease-that-breaks" not in {thread.name for thread in threading.enumerate()}
