"""Pytest plugin: the longest tests begin first, one in each process.

A test that takes half a minute and comes last is waited for by all other processes.
`@pytest.mark.long(SECONDS)` says about how long one takes on an idle machine. The other tests stay
in their order, beside those that they share fixtures with.

The processes of a run (xdist, `--dist=worksteal`) each begin with one even part of the list, and
take from the ends of one another's parts when theirs is done; so the long tests are dealt to the
beginnings of the parts.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "long(seconds): takes about so long; it begins first")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the long tests; each process of a run comes to the same order."""
    seconds = {item: marker_seconds(item) for item in items}
    long = sorted((item for item in items if seconds[item]), key=lambda item: -seconds[item])
    others = [item for item in items if not seconds[item]]
    items[:] = deal(long, others, hands=int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def marker_seconds(item: pytest.Item) -> float:
    """What the test's marker says; 0 without one."""
    marker = item.get_closest_marker("long")
    return float(marker.args[0]) if marker else 0.0


def deal(first: Sequence[T], others: Sequence[T], *, hands: int) -> list[T]:
    """All of both, so that each of `hands` even parts of the result begins with its share of
    `first`, in turn."""
    total, rest, dealt = len(first) + len(others), list(others), list[T]()
    for hand in range(hands):
        size = (total - len(dealt)) // (hands - hand)
        share = list(first[hand::hands])
        missing = max(size - len(share), 0)
        dealt += share + rest[:missing]
        del rest[:missing]
    return dealt + rest
