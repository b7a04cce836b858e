"""A demo with `--for` ends in time when every stage has rows, and waits a bounded time for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mts_project.ending import GRACE_S, Ending


@dataclass
class Stages:
    """Stages that fill at given moments, and what people were told."""

    filled_at: dict[str, float]
    now: float = 0.0
    looks: int = 0
    notes: list[str] = field(default_factory=list)

    def empty(self) -> list[str]:
        self.looks += 1
        return [stage for stage, moment in self.filled_at.items() if self.now < moment]

    def ending(self, *, latest: float = math.inf) -> Ending:
        return Ending(
            starts_at=100.0,
            seconds=20.0,
            latest=latest,
            empty_stages=self.empty,
            say=self.notes.append,
        )

    def end(self, ending: Ending) -> float:
        """The first tenth of a second at which it is over."""
        for tenth in range(1000, 3000):
            self.now = tenth / 10
            if ending.is_over(self.now):
                return self.now
        raise AssertionError("it never ended")


def test_a_demo_whose_stages_are_full_ends_in_time() -> None:
    stages = Stages({"signals": 105.0, "fills": 119.9})
    assert stages.end(stages.ending()) == 120.0
    assert stages.notes == []
    assert stages.looks == 1


def test_an_empty_stage_is_waited_for_and_named_once() -> None:
    stages = Stages({"signals": 105.0, "fills": 133.0, "alerts": 131.0})
    assert 133.0 <= stages.end(stages.ending()) <= 133.6
    assert stages.notes == ["no rows yet: fills, alerts; going on for up to 60 s"]
    assert stages.looks <= 2 * 13 + 2


def test_a_stage_that_stays_empty_does_not_hold_the_demo_for_ever() -> None:
    stages = Stages({"fills": math.inf})
    assert stages.end(stages.ending()) == 120.0 + GRACE_S


def test_nothing_is_waited_for_after_the_end_of_the_world() -> None:
    stages = Stages({"fills": math.inf})
    assert stages.end(stages.ending(latest=125.0)) == 125.0
    assert stages.notes == ["no rows yet: fills; going on for up to 5 s"]
    assert stages.end(stages.ending(latest=110.0)) == 110.0
