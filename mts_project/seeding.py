"""What a new installation holds before anything runs: each app's seeds, in their order."""

from __future__ import annotations

from django.utils.module_loading import import_string

# Named, not imported: each app keeps its services to itself, and is asked for this alone.
SEEDS = (
    "collectors.services.seed_instruments",
    "collectors.services.seed_macro_series",
    "signals.services.seed_strategies",
    "trading.services.seed_account",
    "mts_project.login.seed_roles",
    "mts_project.retention.seed_retention",
    "mts_project.schedule.seed_schedule",
)


def seed_everything() -> None:
    """Write what is missing; rows that exist, with the operator's edits, stay as they are."""
    for name in SEEDS:
        import_string(name)()
