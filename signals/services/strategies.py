"""How a strategy is set: certified, enabled, its parameters and weight changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.conf import settings

from collectors.models import Instrument
from signals.catalog import build_strategy, file_names
from signals.codehash import code_hash
from signals.models import StrategyConfig
from signals.parameters import ParameterError
from signals.registry import STRATEGIES, UnknownStrategy
from signals.services.certification import row_of, settle, take_shipped
from signals.services.changes import SYSTEM, changing
from signals.shipping import shipped_certificate
from signals.standing import CertificateState, certificate_state, waits_for_parameters

log = structlog.get_logger(__name__)

MAX_WEIGHT = 100.0


class StrategyNotCertified(Exception):
    """The strategy cannot be enabled: it failed its certificate for this code and these parameters.
    The text is the certificate's finding; nothing was changed."""


def seed_strategies() -> list[StrategyConfig]:
    """A row for every registered strategy; idempotent, and quick.

    A new row is wanted when ENABLED_STRATEGIES names it, and enabled as soon as it has a
    certificate: the one that came with its code, or the one that is made in the background, where
    a strategy whose code has changed is certified again too. Raises UnknownStrategy when
    ENABLED_STRATEGIES names one that is neither registered nor a file's.
    """
    wanted = settings.ENV.enabled_strategies
    names = [*STRATEGIES, *file_names()]
    for name in wanted:
        if name not in names:
            known = ", ".join(names)
            raise UnknownStrategy(f"ENABLED_STRATEGIES: unknown strategy {name!r}; known: {known}")
    return [_seed(name, is_wanted=name in wanted) for name in STRATEGIES]


def _seed(name: str, *, is_wanted: bool) -> StrategyConfig:
    """A new row is as ENABLED_STRATEGIES wants it; of an old one only the certificate may change.

    Nothing is computed here, a start would have to wait for it: what came with the code counts at
    once, and the rest is certified in the background.
    """
    is_new = not StrategyConfig.objects.filter(name=name).exists()
    row_of(name)
    with changing(name=name, by=SYSTEM) as config:
        config.is_wanted = is_wanted if is_new else config.is_wanted
        state = certificate_state(config)
        if state == CertificateState.DUE:
            take_shipped(config)
        elif state == CertificateState.IMPOSSIBLE:
            log.error("strategy_parameters_invalid", strategy=name)
            config.is_enabled, config.certificate_hash = False, ""
    return config


def configure_strategy(
    *,
    name: str,
    is_enabled: bool | None = None,
    parameters: Mapping[str, Any] | None = None,
    weight: float | None = None,
    assets: Sequence[str] | None = None,
    by: str = SYSTEM,
) -> StrategyConfig:
    """Change what is given; takes effect at the next bar run.

    `parameters` are to replace the stored ones. Where their certificate is not at hand they are
    `pending`, and the old ones run on, until they have passed it in the background. A strategy
    without certificate is enabled as soon as it has one. `assets` are coin ids, none for all that
    there are. `by` is who the record of the change names. Raises UnknownStrategy, ParameterError
    (also for a weight out of range and unknown coins), StrategyNotCertified.
    """
    if weight is not None:
        check_weight(weight)
    if assets is not None:
        check_assets(assets)
    row_of(name)
    with changing(name=name, by=by) as config:
        if parameters is not None:
            _ask_for_parameters(config, parameters, by)
        if weight is not None:
            config.weight = weight
        if assets is not None:
            config.assets = list(dict.fromkeys(assets))
        if is_enabled is not None:
            _want(config, is_enabled)
    return config


def _ask_for_parameters(config: StrategyConfig, parameters: Mapping[str, Any], by: str) -> None:
    """Take them where they have a certificate, else let them wait for one. Raises
    ParameterError."""
    asked = code_hash(build_strategy(config.name, parameters))
    shipped = shipped_certificate(config.name, asked)
    if asked != config.certificate_hash and shipped is None:
        config.pending = {"parameters": dict(parameters), "by": by}
        return
    config.parameters, config.pending = dict(parameters), {}
    if asked != config.certificate_hash and shipped is not None:
        settle(config, shipped)


def _want(config: StrategyConfig, is_enabled: bool) -> None:
    """Enable or disable. Raises StrategyNotCertified for one that failed its certificate."""
    config.is_wanted = is_enabled
    config.is_enabled = is_enabled and has_certificate(config)
    if not is_enabled or config.is_enabled or waits_for_parameters(config):
        return
    if certificate_state(config) != CertificateState.DUE:
        raise StrategyNotCertified(
            f"{config.name}: no certificate for this code and these parameters: "
            f"{config.load_error or config.certificate_verdict}"
        )


def check_weight(weight: float) -> None:
    """Raises ParameterError for a weight that no strategy may have in the consensus."""
    if not (math.isfinite(weight) and 0.0 < weight <= MAX_WEIGHT):
        raise ParameterError({"weight": f"{weight!r} is outside 0 (excluded) to {MAX_WEIGHT:g}"})


def check_assets(assets: Sequence[str]) -> None:
    """Raises ParameterError naming the coin ids of which there is no instrument."""
    known = set(Instrument.objects.filter(coin_id__in=assets).values_list("coin_id", flat=True))
    unknown = [coin_id for coin_id in dict.fromkeys(assets) if coin_id not in known]
    if unknown:
        raise ParameterError({"assets": f"unknown: {', '.join(unknown)}"})


def has_certificate(config: StrategyConfig) -> bool:
    """Whether the stored certificate is for the present code and the stored parameters."""
    return certificate_state(config) == CertificateState.VALID
