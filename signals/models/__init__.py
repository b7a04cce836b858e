"""What was said, by the strategies and from outside. The other modules are its parts."""

from signals.models.outside import (
    AlertFile,
    AlertFileState,
    AlertOrigin,
    AlertVerdict,
    OutsideAlert,
)
from signals.models.said import (
    BarRun,
    Direction,
    Exit,
    InitialState,
    OutcomeState,
    RunState,
    Signal,
    SignalOutcome,
    StrategyChange,
    StrategyConfig,
    StrategyOrigin,
)

__all__ = [
    "AlertFile",
    "AlertFileState",
    "AlertOrigin",
    "AlertVerdict",
    "BarRun",
    "Direction",
    "Exit",
    "InitialState",
    "OutcomeState",
    "OutsideAlert",
    "RunState",
    "Signal",
    "SignalOutcome",
    "StrategyChange",
    "StrategyConfig",
    "StrategyOrigin",
]
