"""`manage.py certify`: tries strategies for look-ahead and stores the certificates."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from signals.parameters import ParameterError
from signals.registry import STRATEGIES, UnknownStrategy
from signals.services import certify_strategy


class Command(BaseCommand):
    """Exit code 1 when a strategy did not pass."""

    help = "Certify one strategy or all. Example: manage.py certify mean_reversion"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="a strategy; all without it")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *, name: str | None, **options: Any) -> None:
        """Certify, print one line each, fail when one failed."""
        certificates = []
        for each in [name] if name else list(STRATEGIES):
            try:
                _, certificate = certify_strategy(name=each)
            except (UnknownStrategy, ParameterError) as error:
                raise CommandError(str(error), returncode=2) from None
            certificates.append(certificate)
        if options["json"]:
            self.stdout.write(json.dumps([certificate.as_json() for certificate in certificates]))
        else:
            for certificate in certificates:
                self.stdout.write(str(certificate))
        if not all(certificate.is_passed for certificate in certificates):
            raise CommandError("not every strategy passed", returncode=1)
