"""Which durable rows are published, under which topic, and in which shape.

A new topic is one line here: its rows are numbered, served at `/ws/{name}/` and replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from alerts.models import Alert
from alerts.selectors import alert_json
from realtime.models import Event
from signals.models import Signal
from signals.publication import signal_json
from trading.models import Fill
from trading.selectors import fill_json


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One stream of rows that are written once.

    `rows` gives them with all that `to_json` reads; each has its market time in `at`.
    """

    name: str
    message_type: str
    rows: Callable[[], QuerySet[Any]]
    to_json: Callable[[Any], dict[str, Any]]

    def due(self) -> QuerySet[Any]:
        """The rows that no event speaks of yet, in the order in which they get numbers.

        Never "ids above the last one": ids are given before the commit, and commit out of order.
        """
        numbered = Event.objects.filter(topic=self.name, row_id=OuterRef("pk"), version=1)
        return self.rows().filter(~Exists(numbered)).order_by("at", "pk")


TOPICS = {
    topic.name: topic
    for topic in (
        Topic(
            name="signals",
            message_type="signal",
            rows=lambda: Signal.objects.select_related("instrument"),
            to_json=signal_json,
        ),
        Topic(
            name="fills",
            message_type="fill",
            rows=lambda: Fill.objects.select_related("account", "order__instrument"),
            to_json=fill_json,
        ),
        Topic(
            name="alerts",
            message_type="alert",
            rows=Alert.objects.all,
            to_json=alert_json,
        ),
    )
}
