"""`manage.py certify`: tries strategies for look-ahead and stores the certificates."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from signals.certificate import COVERS, Certificate, certify
from signals.codehash import code_hash
from signals.fresh import maker_of
from signals.parameters import ParameterError
from signals.registry import PRESETS, STRATEGIES, UnknownStrategy, build_strategy
from signals.services import certify_strategy
from signals.shipping import ship_certificate, shipped_certificate
from signals.trials import Tell


class Command(BaseCommand):
    """Exit code 1 when a strategy did not pass, 2 for one that is not known."""

    help = (
        "Certify one strategy or all: try on a built world, after every single bar, and at 100 "
        "cuts of stored history whether a strategy sees later bars or remembers earlier calls. "
        f"It covers {COVERS}. Example: manage.py certify mean_reversion"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Which strategies, and for whom."""
        parser.add_argument("name", nargs="?", help="a strategy; all without it")
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.add_argument(
            "--ship",
            action="store_true",
            help="for developers: write the certificates of the presets beside the code, made on "
            "the built world alone; without a name, those that are not current",
        )

    def handle(self, *, name: str | None, **options: Any) -> None:
        """Certify, print one line each, fail when one failed."""
        certificates = []
        for certificate, seconds in self._certificates(name, is_shipped=options["ship"]):
            certificates.append(certificate)
            if not options["json"]:
                self.stdout.write(f"{certificate}, in {seconds:.1f} s")
        if options["json"]:
            self.stdout.write(json.dumps([certificate.as_json() for certificate in certificates]))
        failed = [each.strategy for each in certificates if not each.is_passed]
        if failed:
            raise CommandError(f"did not pass: {', '.join(failed)}", returncode=1)

    def _certificates(
        self, name: str | None, *, is_shipped: bool
    ) -> Iterator[tuple[Certificate, float]]:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        with Progress(
            *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
        ) as progress:
            for each in [name] if name else _names(is_shipped=is_shipped):
                bar = progress.add_task(each, total=None)

                def show(done: int, steps: int, bar: Any = bar) -> None:
                    progress.update(bar, completed=done, total=steps)

                began = time.perf_counter()
                try:
                    certificate = _shipped(each, show) if is_shipped else _stored(each, show)
                except (UnknownStrategy, ParameterError) as error:
                    raise CommandError(str(error), returncode=2) from None
                progress.remove_task(bar)
                yield certificate, time.perf_counter() - began


def _names(*, is_shipped: bool) -> list[str]:
    """All strategies, or those whose certificates beside the code are for other code."""
    if not is_shipped:
        return list(STRATEGIES)
    hashes = {name: code_hash(build_strategy(name)) for name in STRATEGIES}
    return [name for name in STRATEGIES if shipped_certificate(name, hashes[name]) is None]


def _stored(name: str, tell: Tell) -> Certificate:
    """With the stored parameters, into the strategy's row."""
    return certify_strategy(name=name, tell=tell)[1]


def _shipped(name: str, tell: Tell) -> Certificate:
    """With the preset's parameters, into a file beside the code; only one that passed."""
    strategy = build_strategy(name)
    certificate = certify(maker_of(strategy), instruments=PRESETS[name].assets, tell=tell)
    if certificate.is_passed:
        ship_certificate(certificate)
    return certificate
