"""What writes the tables of signals: strategy configuration, bar runs, alerts from outside."""

from signals.services.alert_folders import AlertFolder, Tally, forget_gone_files, look_at_folder
from signals.services.bar_runs import run_due_bars
from signals.services.certification import (
    ask_for_certificate,
    certify_due_strategies,
    certify_strategy,
    recertify_strategies,
)
from signals.services.ingest import Arrival, Judgement, ingest_alerts
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
    "AlertFolder",
    "Arrival",
    "Judgement",
    "StrategyNotCertified",
    "Tally",
    "advance_outcomes",
    "ask_for_certificate",
    "certify_due_strategies",
    "certify_strategy",
    "check_assets",
    "check_weight",
    "configure_strategy",
    "forget_gone_files",
    "has_certificate",
    "ingest_alerts",
    "load_strategy_files",
    "look_at_folder",
    "open_outcomes",
    "recertify_strategies",
    "run_due_bars",
    "seed_strategies",
]
