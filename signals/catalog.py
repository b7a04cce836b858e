"""Every strategy that there is: ours, of the registry, and those of the user's files.

UnknownStrategy
  +- StrategyNotLoaded       the strategy of a file that cannot be run: the text is why
       +- StrategyReloading  its file has just changed: it is looked at again within seconds
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from signals import registry
from signals.hosting.files import (
    FileRefused,
    StrategyFile,
    read_strategy_file,
    strategy_file_names,
)
from signals.hosting.hosted import Declaration, Host, HostedStrategy
from signals.hosting.limits import HostLimits
from signals.models import StrategyConfig, StrategyOrigin
from signals.parameters import ParameterRule, parameter_rules
from signals.registry import CONSENSUS, OUTSIDE, PRESETS, STRATEGIES, UnknownStrategy
from signals.strategy import Strategy

# A passing refusal: what the strategy said last stands until its file has been looked at.
RELOADING = "its file has changed, or cannot be read at the moment: it is being loaded"
RESERVED = frozenset({*STRATEGIES, CONSENSUS, OUTSIDE})


class StrategyNotLoaded(UnknownStrategy):
    """There is such a file, but no strategy of it that could be run."""


class StrategyReloading(StrategyNotLoaded):
    """The file is not the one that was loaded and certified; that will be settled in seconds."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What pages and requests need to know of a strategy; `defaults` by parameter."""

    timeframe: str
    macro_series: tuple[str, ...]
    rules: tuple[ParameterRule, ...]
    defaults: Mapping[str, float | int | None]


def strategy_names() -> list[str]:
    """All names, ours first; also of files that cannot be run at the moment."""
    files = StrategyConfig.objects.filter(origin=StrategyOrigin.FILE)
    return [*STRATEGIES, *files.order_by("name").values_list("name", flat=True)]


def subscription_names() -> list[str]:
    """What an account may follow: the consensus, every strategy, and what comes from outside."""
    return [CONSENSUS, *strategy_names(), OUTSIDE]


def file_names() -> list[str]:
    """The files in MTS_STRATEGY_DIR, loaded or not; none of a folder that is refused."""
    folder = settings.ENV.strategy_dir
    try:
        return [] if folder is None else strategy_file_names(folder)
    except FileRefused:
        return []


def timeframes() -> frozenset[str]:
    """The timeframes that strategies are made for; of files those that are enabled."""
    files = StrategyConfig.objects.filter(origin=StrategyOrigin.FILE, is_enabled=True)
    declared = files.values_list("declaration", flat=True)
    return registry.TIMEFRAMES | {each["timeframe"] for each in declared if each}


def build_strategy(name: str, parameters: Mapping[str, Any] | None = None) -> Strategy:
    """The named strategy with `parameters` over its defaults. Raises UnknownStrategy (also
    StrategyNotLoaded), ParameterError."""
    if name in STRATEGIES:
        return registry.build_strategy(name, parameters)
    return _hosted(config_of(name), parameters)


def strategy_of(config: StrategyConfig) -> Strategy:
    """The strategy of a row with its stored parameters. Errors as of `build_strategy`."""
    if config.origin == StrategyOrigin.OURS:
        return registry.build_strategy(config.name, config.parameters)
    return _hosted(config, config.parameters)


def facts_of(name: str) -> Facts:
    """What is declared of the named strategy; no file is read. Raises UnknownStrategy."""
    if name in STRATEGIES:
        kind = STRATEGIES[name]
        rules = tuple(parameter_rules(kind))
        timeframe, series = kind.timeframe, kind.macro_series
        defaults = {
            rule.name: PRESETS[name].parameters.get(rule.name, rule.default) for rule in rules
        }
    else:
        declared = _declaration(config_of(name))
        timeframe, series, rules = declared.timeframe, declared.macro_series, declared.rules
        defaults = {rule.name: rule.default for rule in rules}
    return Facts(timeframe=timeframe, macro_series=series, rules=rules, defaults=defaults)


def config_of(name: str) -> StrategyConfig:
    """The row of a file's strategy. Raises UnknownStrategy."""
    config = StrategyConfig.objects.filter(name=name, origin=StrategyOrigin.FILE).first()
    if config is None:
        known = ", ".join(strategy_names())
        raise UnknownStrategy(f"unknown strategy {name!r}; known: {known}")
    return config


def _hosted(config: StrategyConfig, parameters: Mapping[str, Any] | None) -> HostedStrategy:
    declaration = _declaration(config)
    if not config.file_hash and config.load_error:  # refused, or gone
        raise _not_loaded(config)
    file = _file(config.name)
    if file.sha256 != config.file_hash:
        raise StrategyReloading(f"{config.name}: {RELOADING}")
    is_known = config.declaration.get("lookback_of") == dict(parameters or {})
    lookback = config.declaration["lookback"] if is_known else None
    return HostedStrategy(host_of(file), declaration, parameters, lookback=lookback)


def _declaration(config: StrategyConfig) -> Declaration:
    if not config.declaration:
        raise _not_loaded(config)
    return Declaration.from_json(config.declaration)


def _not_loaded(config: StrategyConfig) -> StrategyNotLoaded:
    text = config.load_error or RELOADING
    return StrategyNotLoaded(text if text.startswith(config.name) else f"{config.name}: {text}")


def _file(name: str) -> StrategyFile:
    folder = settings.ENV.strategy_dir
    if folder is None:
        raise StrategyNotLoaded(f"{name}: MTS_STRATEGY_DIR is not set")
    try:
        return read_strategy_file(folder, name)
    except (FileRefused, FileNotFoundError) as error:
        raise StrategyReloading(f"{name}: {RELOADING} ({error})") from None


RUN_LIMITS = HostLimits()
_hosts: dict[str, Host] = {}
_hosts_lock = threading.Lock()


def host_of(file: StrategyFile) -> Host:
    """The host of a file in this process. One of an older text ends with its last strategy."""
    with _hosts_lock:
        host = _hosts.get(file.name)
        if host is None or host.file.sha256 != file.sha256:
            host = _hosts[file.name] = Host(file, RUN_LIMITS)
        return host


def drop_host(name: str) -> None:
    """Let go of the processes of a file that is gone."""
    with _hosts_lock:
        _hosts.pop(name, None)
