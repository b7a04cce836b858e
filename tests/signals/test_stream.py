"""What subscribers of /ws/signals/ are sent of a bar run: everybody's signals, with reasons."""

from datetime import UTC, datetime, timedelta

import pytest

from realtime.models import Event
from realtime.services import publish_due_events
from signals import services
from signals.models import Signal

HOUR = timedelta(hours=1)
START = datetime(2021, 5, 3, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def test_the_consensus_and_each_strategy_are_told_with_their_reasons(seeded, clock_at):
    clock_at(START + 20 * HOUR)
    services.run_due_bars(timeframe="1h")
    publish_due_events()
    events = list(Event.objects.filter(topic="signals").order_by("seq"))
    assert len(events) == Signal.objects.count()
    assert [event.prev for event in events] == [0, *(event.seq for event in events[:-1])]
    told = {(event.data["strategy"], event.data["signal_type"]): event for event in events}
    assert set(told) == {
        (strategy, state)
        for strategy in ("mean_reversion", "consensus")
        for state in ("LONG", "FLAT")
    }
    own, common = told["mean_reversion", "LONG"], told["consensus", "LONG"]
    assert own.at == datetime.fromisoformat(own.data["timestamp"])
    assert set(own.data["reasons"]) == {"rsi", "drawdown", "vix"}
    assert own.data["reasons"]["vix"] == 30.0
    assert set(common.data["reasons"]["votes"]) == {"mean_reversion", "vix_correlation"}
    assert common.data["reasons"]["votes"]["mean_reversion"]["direction"] == 1
