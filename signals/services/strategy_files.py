"""The user's strategy files as rows: found, loaded when they change, and refused with their errors.

Nothing of a file runs in this process (see `signals.hosting`), and what was loaded is certified as
ours are (see `certification`). What a file's strategy said stands while a changed file is looked
at; it is withdrawn once the file has failed or is gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.core.validators import slug_re

from collectors import clock
from signals import catalog
from signals.hosting.files import (
    FileRefused,
    StrategyFile,
    is_settled,
    read_strategy_file,
    strategy_file_names,
)
from signals.hosting.hosted import Host, HostedStrategy
from signals.models import StrategyConfig, StrategyOrigin
from signals.parameters import ParameterError
from signals.registry import CONSENSUS, STRATEGIES
from signals.services.certification import while_leased
from signals.services.changes import SYSTEM, changing
from signals.strategy import StrategyError

log = structlog.get_logger(__name__)

# Of wall time: an editor writes a file in pieces, or puts a new one in its place.
SETTLE_S = 1.0
LONGEST_NAME = 64


def load_strategy_files(*, settle_s: float = SETTLE_S) -> list[str]:
    """Look at every file in MTS_STRATEGY_DIR and every row of one; gives the names of the rows that
    have changed.

    A new file gets a row, that is wanted when ENABLED_STRATEGIES names it. A new or changed one is
    loaded, and its certificate is due; it runs, if it is wanted, as soon as that is there. One that
    cannot be loaded, may not be read or is gone is disabled, with its error. Files are passed over
    that changed within the last `settle_s` seconds. Idempotent; safe to call by many.
    """
    folder = settings.ENV.strategy_dir
    rows = StrategyConfig.objects.filter(origin=StrategyOrigin.FILE)
    known = set(rows.values_list("name", flat=True))
    if folder is None and not known:
        return []
    problem, found = "MTS_STRATEGY_DIR is not set", set()
    if folder is not None:
        try:
            problem, found = "", set(strategy_file_names(folder))
        except FileRefused as error:
            problem = str(error)
            log.error("strategy_folder_refused", reason=problem)
    _note_reserved(found)
    changed = []
    for name in sorted((found | known) - catalog.RESERVED):
        if slug_re.match(name) is None or len(name) > LONGEST_NAME:
            log.error("strategy_file_refused", file=f"{name}.py", reason="no name of a strategy")
        elif folder is None or problem:
            changed += _refuse(name, problem)
        elif is_settled(folder, name, seconds=settle_s):
            changed += _look_at(folder, name)
    return changed


def _look_at(folder: Path, name: str) -> list[str]:
    """Load a file unless its row says all of it already; gives the name when the row changed."""
    try:
        file = read_strategy_file(folder, name)
    except FileNotFoundError:
        catalog.drop_host(name)
        return _refuse(name, f"{name}.py is gone")
    except FileRefused as error:
        return _refuse(name, str(error))
    # Whoever certifies begins only while nobody holds a lease: none is taken to find nothing to do.
    if _is_current(_row_of(name), file):
        return []
    return [name] if while_leased(name, lambda row: _load(row, file)) else []


def _row_of(name: str) -> StrategyConfig:
    defaults = {
        "origin": StrategyOrigin.FILE,
        "is_wanted": name in settings.ENV.enabled_strategies,
    }
    return StrategyConfig.objects.get_or_create(name=name, defaults=defaults)[0]


def _load(config: StrategyConfig, file: StrategyFile) -> bool:
    """Load a file, unless its row says all of it already."""
    if _is_current(config, file):
        return False
    parameters = dict(config.parameters)
    declaration, problem = _declared_in(file, parameters)
    with changing(name=config.name, by=SYSTEM) as config:
        config.file_hash, config.loaded_at = file.sha256, clock.wall_now()
        config.declaration, config.load_error = declaration, problem
        if problem:
            config.is_enabled, config.certificate_hash = False, ""
    if problem:
        log.error("strategy_file_refused", strategy=config.name, reason=problem)
    else:
        log.info("strategy_file_loaded", strategy=config.name)
    return True


def _is_current(config: StrategyConfig, file: StrategyFile) -> bool:
    if config.file_hash != file.sha256 or config.loaded_at is None:
        return False
    if config.load_error:  # not tried for ever; saving the file anew has it tried again
        is_older = file.modified_at <= config.loaded_at.timestamp()
        return is_older and not config.certificate_hash  # parameters that fit have passed since
    declared = config.declaration  # one of an older version of ours lacks what is declared now
    return "compares" in declared and bool(declared["lookback_of"] == config.parameters)


def _declared_in(file: StrategyFile, parameters: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What a file declares, with its lookback for these parameters, and what is wrong with it."""
    host = Host(file)
    declared: dict[str, Any] = {}
    try:
        declaration = host.declaration()
        declared = declaration.as_json()
        strategy = HostedStrategy(host, declaration, parameters)
        return {**declared, "lookback": strategy.lookback, "lookback_of": parameters}, ""
    except ParameterError as error:
        return declared, f"the stored parameters do not fit: {error}"
    except StrategyError as error:
        return {}, str(error)
    finally:
        host.close()


def _refuse(name: str, reason: str) -> list[str]:
    """Disable the file's strategy, if it is not refused for this already."""
    config = _row_of(name)
    if config.load_error == reason and not config.is_enabled:
        return []
    with changing(name=name, by=SYSTEM) as config:
        config.is_enabled, config.certificate_hash, config.file_hash = False, "", ""
        config.load_error, config.loaded_at = reason, clock.wall_now()
    log.error("strategy_file_refused", strategy=name, reason=reason)
    return [name]


def _note_reserved(found: set[str]) -> None:
    """Say at our own strategies which file is passed over because it has their name."""
    ours = StrategyConfig.objects.filter(origin=StrategyOrigin.OURS)
    ours.exclude(load_error="").exclude(name__in=found).update(load_error="")
    for name in found & STRATEGIES.keys():
        reason = f"{name}.py in MTS_STRATEGY_DIR is passed over: the name is taken by one of ours"
        if ours.filter(name=name).exclude(load_error=reason).update(load_error=reason):
            log.error("strategy_file_refused", strategy=name, reason=reason)
    if CONSENSUS in found:
        log.error("strategy_file_refused", file=f"{CONSENSUS}.py", reason="the name is taken")
