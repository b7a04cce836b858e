"""manage.py seed: write the rows that every installation starts with."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from mts_project.seeding import seed_everything


class Command(BaseCommand):
    """Instruments, macro series, strategies, the paper account, roles, periodic tasks."""

    help = (
        "Write the rows that every installation starts with (instruments, macro series, "
        "strategies, the paper account, roles, periodic tasks). Rows that exist stay as they "
        "are, so it may run again at any time. Example: manage.py migrate && manage.py seed"
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Seed, and say so."""
        seed_everything()
        self.stdout.write("seeded")
