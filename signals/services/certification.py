"""Certificates of strategies: taken over as shipped, made where they are due, tried again at night.

A certificate takes seconds of computing, so nobody who asks for a change waits for it: what is due
is a state of the strategy's row, worked off by `certify_due_strategies` under a lease.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from django.db.models import Q
from django.db.models.functions import Now

from collectors import clock
from collectors.renewal import renewing
from signals import standing
from signals.catalog import StrategyReloading, build_strategy, config_of
from signals.certificate import Certificate, certify
from signals.codehash import code_hash
from signals.fresh import maker_of
from signals.models import StrategyConfig
from signals.parameters import ParameterError
from signals.registry import PRESETS, UnknownStrategy
from signals.services.changes import SYSTEM, changing
from signals.shipping import shipped_certificate
from signals.standing import CertificateState
from signals.strategy import StrategyError
from signals.trials import Tell

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)
RENEW_SECONDS = 10.0
RECENT = timedelta(hours=1)  # of wall time
LONGEST_S = 900.0  # a hundred times what ours take


class _TookTooLong(Exception):
    """The trial is not worth waiting for; the text says how far it came."""


def certify_strategy(
    *, name: str, by: str = SYSTEM, seed: str = "", tell: Tell | None = None
) -> tuple[StrategyConfig, Certificate]:
    """Certify a strategy with its stored parameters, now, and store the result; one that fails is
    disabled, one that passes and is wanted is enabled. Raises UnknownStrategy, ParameterError.

    Nothing is stored when the parameters were changed meanwhile.
    """
    config = row_of(name)
    certificate = tried(name, config.parameters, config.assets, seed=seed, tell=tell)
    with changing(name=name, by=by) as config:
        if certificate.code_hash == code_hash(build_strategy(name, config.parameters)):
            settle(config, certificate.as_json())
    return config, certificate


def ask_for_certificate(*, name: str, by: str) -> StrategyConfig:
    """Have a strategy tried again in the background, with its stored parameters; one that fails is
    disabled then. Raises UnknownStrategy, ParameterError."""
    row_of(name)
    with changing(name=name, by=by) as config:
        build_strategy(name, config.parameters)
        config.pending = {"parameters": config.parameters, "by": by}
    return config


def certify_due_strategies() -> list[str]:
    """Certify whatever has no certificate for its code and parameters, and parameters that wait
    for one; gives the names. Idempotent, and safe to call by many: each strategy is leased.

    Nothing is begun while somebody certifies any: the threads that compute are there for bars too.
    """
    if StrategyConfig.objects.filter(certifying_until__gt=Now()).exists():
        return []
    # Most looks find nothing, and a lease costs the database's only writer a turn.
    rows = StrategyConfig.objects.order_by("name")
    due = [row.name for row in rows if _apart(row.name, partial(_is_due, row))]
    return [name for name in due if _apart(name, partial(while_leased, name, _certify_if_due))]


def recertify_strategies() -> list[str]:
    """Try every enabled strategy once more, at cuts of stored history that follow from the market
    day; gives the names of those that failed, and are disabled.

    A second call of the day does nothing, nor does one within an hour: on a fast clock the nights
    follow one another by seconds.
    """
    day = clock.now().date().isoformat()
    recent = clock.wall_now() - RECENT
    names = StrategyConfig.objects.filter(is_enabled=True).values_list("name", flat=True)

    def once_more(config: StrategyConfig) -> bool:
        last = config.certified_at
        if config.certificate_detail.get("seed") == day or (last is not None and last > recent):
            return False
        try:
            _, certificate = certify_strategy(name=config.name, seed=day)
        except (UnknownStrategy, ParameterError) as error:
            log.error("strategy_not_recertified", strategy=config.name, reason=str(error))
            return True
        return not certificate.is_passed

    return [name for name in list(names) if _apart(name, partial(while_leased, name, once_more))]


def row_of(name: str) -> StrategyConfig:
    """The row of a strategy, of one of ours made with its preset where there is none. Raises
    UnknownStrategy."""
    if name not in PRESETS:
        return config_of(name)
    preset = PRESETS[name]
    defaults = {"weight": preset.weight, "assets": list(preset.assets)}
    return StrategyConfig.objects.get_or_create(name=name, defaults=defaults)[0]


def settle(config: StrategyConfig, certificate: Mapping[str, Any]) -> None:
    """Give a row its certificate, passed or not, and the state that follows. Does not save."""
    is_passed = bool(certificate["is_passed"])
    config.certificate_hash = certificate["code_hash"] if is_passed else ""
    config.certified_at = clock.wall_now()
    config.certificate_detail = dict(certificate)
    config.is_enabled = is_passed and (config.is_enabled or config.is_wanted)
    if not is_passed:
        log.error("strategy_certificate_failed", strategy=config.name, detail=dict(certificate))


def take_shipped(config: StrategyConfig) -> bool:
    """Give a row the certificate that came with the code, if there is one for its parameters and
    for the present code. Does not save."""
    present = code_hash(build_strategy(config.name, config.parameters))
    shipped = shipped_certificate(config.name, present)
    if shipped is not None:
        settle(config, shipped)
    return shipped is not None


def tried(
    name: str,
    parameters: Mapping[str, Any],
    assets: Sequence[str],
    *,
    seed: str = "",
    tell: Tell | None = None,
) -> Certificate:
    """The certificate of a strategy with these parameters, on the built world and on whatever is
    stored of its assets. One that takes longer than LONGEST_S has failed, as has one that raises
    before it is tried. Raises UnknownStrategy, ParameterError."""
    strategy = build_strategy(name, parameters)
    end = time.monotonic() + LONGEST_S

    def told(done: int, steps: int) -> None:
        if time.monotonic() > end:
            raise _TookTooLong(f"{done} of {steps} steps in {LONGEST_S:g} s")
        if tell is not None:
            tell(done, steps)

    try:
        return certify(
            maker_of(strategy),
            instruments=assets,
            stored=standing.stored_market(strategy=strategy, coin_ids=assets),
            seed=seed,
            tell=told,
        )
    except (_TookTooLong, StrategyError) as error:
        return Certificate(
            strategy=name,
            code_hash=code_hash(strategy),
            failed_check="took too long" if isinstance(error, _TookTooLong) else "raised",
            failing_output=str(error),
        )


def _is_due(config: StrategyConfig) -> bool:
    return (
        standing.waits_for_parameters(config)
        or standing.certificate_state(config) == CertificateState.DUE
    )


def _certify_if_due(config: StrategyConfig) -> bool:
    """Whether there was anything to do for a row."""
    if standing.waits_for_parameters(config):
        _settle_parameters(config)
        return True
    if standing.certificate_state(config) != CertificateState.DUE:
        return False
    with changing(name=config.name, by=SYSTEM) as fresh:
        if take_shipped(fresh):
            return True
    certify_strategy(name=config.name)
    return True


def _settle_parameters(config: StrategyConfig) -> None:
    """Try parameters that wait; they take the place of the old ones when they pass."""
    waiting = config.pending
    try:
        certificate = tried(config.name, waiting["parameters"], config.assets).as_json()
    except StrategyReloading:  # that passes: they go on waiting
        return
    except (UnknownStrategy, ParameterError) as error:  # the declared ranges have changed
        certificate = {"is_passed": False, "failed_check": "refused", "failing_output": str(error)}
    with changing(name=config.name, by=waiting["by"]) as fresh:
        if fresh.pending != waiting:
            return
        if certificate["is_passed"] or waiting["parameters"] == fresh.parameters:
            fresh.parameters, fresh.pending = waiting["parameters"], {}
            settle(fresh, certificate)
        else:
            fresh.pending = {**waiting, "certificate": certificate}
            log.error("strategy_parameters_failed", strategy=config.name, detail=certificate)


def _apart(name: str, look: Callable[[], bool]) -> bool:
    """What the look at one strategy finds; what it raises does not end the pass of the others."""
    try:
        return look()
    except Exception:
        log.exception("strategy_not_certified", strategy=name)
        return False


def while_leased(name: str, work: Callable[[StrategyConfig], bool]) -> bool:
    """Do it with a strategy's row unless somebody else is certifying that strategy."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"[-64:]
    row = StrategyConfig.objects.filter(name=name)
    free = Q(certifying_until__isnull=True) | Q(certifying_until__lt=Now())
    if not row.filter(free).update(certifying_by=owner, certifying_until=Now() + LEASE):
        return False
    held = row.filter(certifying_by=owner)
    try:
        with renewing(
            lambda: held.update(certifying_until=Now() + LEASE),
            every_s=RENEW_SECONDS,
            name=f"lease-certificate-{name}",
        ):
            return work(row.get())
    finally:
        held.update(certifying_by="", certifying_until=None)
