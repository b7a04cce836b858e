"""What writes the tables of signals: strategy configuration and bar runs."""

from signals.services.bar_runs import run_due_bars
from signals.services.certification import (
    ask_for_certificate,
    certify_due_strategies,
    certify_strategy,
    recertify_strategies,
)
from signals.services.outcomes import advance_outcomes, open_outcomes
from signals.services.strategies import (
    StrategyNotCertified,
    check_assets,
    check_weight,
    configure_strategy,
    has_certificate,
    seed_strategies,
)
from signals.services.strategy_files import load_strategy_files

__all__ = [
    "StrategyNotCertified",
    "advance_outcomes",
    "ask_for_certificate",
    "certify_due_strategies",
    "certify_strategy",
    "check_assets",
    "check_weight",
    "configure_strategy",
    "has_certificate",
    "load_strategy_files",
    "open_outcomes",
    "recertify_strategies",
    "run_due_bars",
    "seed_strategies",
]
