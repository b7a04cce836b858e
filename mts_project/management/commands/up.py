"""manage.py up: all processes of this machine, supervised until Ctrl-C."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mts_project import launch
from mts_project.installation import Installation
from mts_project.liveview import Screen


class Command(BaseCommand):
    """Starts what was asked for, restarts what dies, and ends with everything down."""

    help = (
        "Start and supervise the processes of this machine: Redis (private, unless REDIS_URL is "
        "set), migrations and seeds, web, workers, beat, stream and Flower. Ctrl-C stops all. "
        "Example: manage.py up --only worker:signals,beat"
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The same as `launch.prepare` has checked before the settings were read."""
        launch.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until stopped; the exit code says how it ended."""
        asked = launch.current()
        if asked is None:
            raise CommandError("start it from the command line: manage.py up", returncode=2)
        # A demo is there to be watched; elsewhere counting large tables is worth less than rest.
        pace = (1.0, 5.0) if asked.demo else (5.0, 60.0)
        screen = Screen(live_every_s=pace[0], plain_every_s=pace[1])
        code = Installation(asked, screen=screen).run()
        if code:
            raise SystemExit(code)
