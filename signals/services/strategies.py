"""How a strategy is set: certified, enabled, its parameters and weight changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.conf import settings

from collectors import clock
from collectors.models import Instrument
from signals.certificate import Certificate, certify
from signals.codehash import code_hash
from signals.fresh import maker_of
from signals.models import StrategyConfig
from signals.parameters import ParameterError
from signals.registry import PRESETS, STRATEGIES, UnknownStrategy, build_strategy
from signals.services.changes import SYSTEM, changing
from signals.strategy import Strategy

log = structlog.get_logger(__name__)

MAX_WEIGHT = 100.0


class StrategyNotCertified(Exception):
    """The strategy cannot be enabled: it has no certificate for its code and these parameters,
    or did not pass. The text is the certificate's finding; nothing was changed."""


def seed_strategies() -> list[StrategyConfig]:
    """A row for every registered strategy, certified; idempotent.

    A new row is enabled when ENABLED_STRATEGIES names it and it passes. Strategies whose code
    has changed since are certified again, and disabled when they no longer pass. Raises
    UnknownStrategy when ENABLED_STRATEGIES names one that is not registered.
    """
    wanted = settings.ENV.enabled_strategies
    for name in wanted:
        if name not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise UnknownStrategy(f"ENABLED_STRATEGIES: unknown strategy {name!r}; known: {known}")
    return [_seed(name, enable=name in wanted) for name in STRATEGIES]


def _seed(name: str, *, enable: bool) -> StrategyConfig:
    config, is_new = StrategyConfig.objects.get_or_create(name=name, defaults=_preset(name))
    try:
        strategy = build_strategy(name, config.parameters)
    except ParameterError as error:
        log.error("strategy_parameters_invalid", strategy=name, reason=str(error))
        with changing(name=name, by=SYSTEM) as config:
            config.is_enabled, config.certificate_hash = False, ""
        return config
    if config.certificate_hash != code_hash(strategy):
        config, certificate = certify_strategy(name=name)
        if not certificate.is_passed:
            return config
    if is_new and enable:
        config = configure_strategy(name=name, is_enabled=True)
    return config


def certify_strategy(*, name: str, by: str = SYSTEM) -> tuple[StrategyConfig, Certificate]:
    """Certify a strategy with its stored parameters and store the result; one that fails is
    disabled. Raises UnknownStrategy, ParameterError."""
    config, _ = StrategyConfig.objects.get_or_create(name=_registered(name), defaults=_preset(name))
    certificate = certify(maker_of(build_strategy(name, config.parameters)))
    with changing(name=name, by=by) as config:
        _record(config, certificate)
        if not certificate.is_passed:
            config.is_enabled = False
            log.error("strategy_certificate_failed", strategy=name, reason=str(certificate))
    return config, certificate


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

    `parameters` replace the stored ones and are certified before anything changes; `assets` are
    coin ids, none for all that there are. `by` is who the record of the change names. Raises
    UnknownStrategy, ParameterError (also for a weight out of range and unknown coins),
    StrategyNotCertified.
    """
    if weight is not None:
        check_weight(weight)
    if assets is not None:
        check_assets(assets)
    StrategyConfig.objects.get_or_create(name=_registered(name), defaults=_preset(name))
    # Stored parameters may have fallen out of a range: they must not bar the way to disabling.
    certificate = None
    if parameters is not None:
        certificate = certify(maker_of(build_strategy(name, parameters)))
    if certificate is not None and not certificate.is_passed:
        raise StrategyNotCertified(str(certificate))
    with changing(name=name, by=by) as config:
        if parameters is not None:
            config.parameters = dict(parameters)
        if certificate is not None:
            _record(config, certificate)
        if weight is not None:
            config.weight = weight
        if assets is not None:
            config.assets = list(dict.fromkeys(assets))
        if is_enabled is not None:
            if is_enabled and not has_certificate(config):
                raise StrategyNotCertified(
                    f"{name}: no certificate for this code and these parameters"
                )
            config.is_enabled = is_enabled
    return config


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
    strategy: Strategy = build_strategy(config.name, config.parameters)
    return config.certificate_hash == code_hash(strategy)


def _registered(name: str) -> str:
    build_strategy(name)
    return name


def _preset(name: str) -> dict[str, Any]:
    preset = PRESETS[name]
    return {"weight": preset.weight, "assets": list(preset.assets)}


def _record(config: StrategyConfig, certificate: Certificate) -> None:
    config.certificate_hash = certificate.code_hash if certificate.is_passed else ""
    config.certified_at = clock.wall_now()
    config.certificate_detail = certificate.as_json()
