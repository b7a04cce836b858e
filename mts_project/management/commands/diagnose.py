"""manage.py diagnose: could this installation run?"""

from __future__ import annotations

import json
from argparse import SUPPRESS
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mts_project.diagnosis import Finding, diagnose

STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


class Command(BaseCommand):
    """Tests configuration, stores, keys and providers; changes nothing."""

    help = (
        "Test configuration, database, Redis, keys and the reachability of every provider. "
        "Changes nothing; exit code 1 when something that is needed fails. "
        "Example: manage.py diagnose --json"
    )
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Wrong arguments end in one line, so nothing is said about the usage."""
        return super().create_parser(prog_name, subcommand, usage=SUPPRESS, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Only the form of the answer."""
        parser.add_argument("--json", action="store_true", help="print a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings; exit code 1 when one has failed."""
        findings = diagnose()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2))
        else:
            Console().print(_table(findings))
        if any(finding.state == "failed" for finding in findings):
            raise SystemExit(1)


def _table(findings: list[Finding]) -> Table:
    table = Table("check", "state", "detail")
    for finding in findings:
        state = Text(finding.state, style=STYLES[finding.state])
        table.add_row(finding.name, state, finding.detail)
    return table
