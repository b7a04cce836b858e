"""A strategy file as a strategy like any other: what it declares, and its analyses from afar.

StrategyError
  +- StrategyFailed       the file raised, or declares no strategy as it must
  +- StrategyTimeout      no answer within the hard limit (see `process`)
  +- StrategyCrashed      its process ended, or answered with garbage (see `process`)
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from collectors.macro_registry import MACRO_SERIES
from collectors.marketdata import TIMEFRAMES
from signals.hosting.files import StrategyFile
from signals.hosting.limits import TRIAL_S, Allowance, HostLimits
from signals.hosting.process import HostProcess, StrategyCrashed, StrategyTimeout
from signals.hosting.wire import Array, named_arrays, result_dtype
from signals.parameters import ParameterError, ParameterRule, checked_values
from signals.strategy import (
    Analysis,
    AnalysisError,
    Market,
    MarketError,
    Strategy,
    StrategyError,
)

T = TypeVar("T")

KEPT_IDLE = 2
MAX_LOOKBACK = 20_000  # bars: more than two years of hours
MAX_RULES = 64
MAX_SERIES = 16
MAX_DIAGNOSTICS = 64
TEXT_LIMIT = 400


class StrategyFailed(StrategyError):
    """The file raised, or declares no strategy as it must; the text names the line if there is
    one."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a strategy file says of itself."""

    name: str
    timeframe: str
    macro_series: tuple[str, ...]
    compares: bool
    rules: tuple[ParameterRule, ...]
    about: str

    def as_json(self) -> dict[str, Any]:
        """The declaration for a row of the database."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Declaration:
        """What `as_json` gave."""
        return cls(
            name=content["name"],
            timeframe=content["timeframe"],
            macro_series=tuple(content["macro_series"]),
            compares=bool(content.get("compares")),
            rules=tuple(ParameterRule(**rule) for rule in content["rules"]),
            about=content["about"],
        )


class Host:
    """Runs one strategy file, in as many processes as there are callers at once.

    A process is used again by the next call, until something goes wrong in it. All of them end
    with the host, and with us. Any thread may call.
    """

    def __init__(
        self,
        file: StrategyFile,
        limits: HostLimits | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.file = file
        self.limits = limits or HostLimits()
        self._allowance = allowance or Allowance(math.inf)
        self._idle: list[HostProcess] = []
        self._lock = threading.Lock()
        self._end = weakref.finalize(self, _kill_all, self._idle)

    def declaration(self) -> Declaration:
        """Execute the file in a new process and give what it declares. Raises StrategyError."""
        process = HostProcess(self.file.name, self.limits)
        answer = self._load(process)
        try:
            declared = _declaration(self.file.name, answer)
        except StrategyError:
            process.kill()
            raise
        self._keep(process)
        return declared

    def ask(
        self,
        header: Mapping[str, Any],
        arrays: Mapping[str, Array],
        *,
        read: Callable[[Mapping[str, Any], Mapping[str, Array]], T],
        largest: int = 0,
    ) -> T:
        """One question to one of the processes; `read` makes of its answer what it says, and
        raises StrategyError where that cannot be. Raises StrategyError."""
        if self._allowance.left <= 0:
            raise StrategyTimeout(f"{self.file.name}: all its calls together took too long")
        process = self._taken()
        seconds = min(self.limits.call_s, self._allowance.left)
        began = time.monotonic()
        try:
            answer, results = process.ask(header, arrays, seconds=seconds, largest=largest)
        finally:
            self._allowance.left -= time.monotonic() - began
        try:
            if "error" in answer:
                _raise(self.file.name, header["ask"], answer)
            found = read(answer, results)
        except MarketError:
            self._keep(process)
            raise
        except StrategyError:
            process.kill()  # it may be left in any state
            raise
        self._keep(process)
        return found

    def close(self) -> None:
        """End the processes that nobody is using."""
        with self._lock:
            _kill_all(self._idle)

    def _taken(self) -> HostProcess:
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None:
                process = HostProcess(self.file.name, self.limits)
                self._load(process)
                return process
            if process.is_fresh:
                return process
            process.kill()

    def _load(self, process: HostProcess) -> dict[str, Any]:
        source = np.frombuffer(self.file.source, dtype=np.uint8)
        answer, _ = process.ask(
            {"ask": "load", "name": self.file.name},
            {"source": source},
            seconds=self.limits.load_s,
            largest=0,
        )
        if "error" in answer:
            process.kill()
            _raise(self.file.name, "load", answer)
        return answer

    def _keep(self, process: HostProcess) -> None:
        with self._lock:
            if self._end.alive and len(self._idle) < KEPT_IDLE:
                self._idle.append(process)
                return
        process.kill()


class HostedStrategy(Strategy):
    """A strategy whose code runs elsewhere, with parameters of its own.

    `lookback` is asked for where it is not known. Raises ParameterError for parameters that the
    declaration does not allow.
    """

    def __init__(
        self,
        host: Host,
        declaration: Declaration,
        parameters: Mapping[str, Any] | None = None,
        *,
        lookback: int | None = None,
    ) -> None:
        # Of the class with ours; here one class stands for every file.
        self.name = declaration.name  # type: ignore[misc]
        self.timeframe = declaration.timeframe  # type: ignore[misc]
        self.macro_series = declaration.macro_series  # type: ignore[misc]
        self.compares = declaration.compares  # type: ignore[misc]
        self._host = host
        self._declaration = declaration
        self._parameters = checked_values(declaration.rules, parameters or {})
        self._lookback = lookback
        self._trial = Allowance(TRIAL_S)

    @property
    def code_identity(self) -> str:
        """The file and what runs it: with our own modules, what decides an analysis."""
        return f"{self._host.file.sha256}:{_child_sha256()}"

    @property
    def lookback(self) -> int:
        """Bars before a row that the row depends on. Raises StrategyError."""
        if self._lookback is None:
            question = {"ask": "lookback", "parameters": self._parameters}
            self._lookback = self._host.ask(
                question, {}, read=lambda answer, _: _lookback(self.name, answer)
            )
        return self._lookback

    def get_parameters(self) -> Mapping[str, Any]:
        """The parameters in force, by name."""
        return dict(self._parameters)

    def fresh(self) -> HostedStrategy:
        """The same strategy in processes of its own, that remember nothing. All that come of this
        one share a time: whoever tries it thousands of times has an end."""
        host = Host(self._host.file, self._host.limits, self._trial)
        return HostedStrategy(host, self._declaration, self._parameters, lookback=self._lookback)

    def analyze(self, market: Market) -> Analysis:
        """The wanted state at every bar. Raises StrategyError, also for every fault of the file."""
        words: dict[str, Any] = {}
        arrays: dict[str, Array] = {}
        for name, value in named_arrays(market):
            if isinstance(value, np.ndarray):
                arrays[name] = value
            else:
                words[name] = value
        question = {"ask": "analyze", "parameters": self._parameters, "market": words}
        shape = market.close.shape
        largest = (len(dataclasses.fields(Analysis)) + MAX_DIAGNOSTICS) * market.close.size * 8
        return self._host.ask(
            question,
            arrays,
            read=lambda _, results: _analysis(self.name, results, shape),
            largest=largest,
        )


def _lookback(name: str, answer: Mapping[str, Any]) -> int:
    found = answer.get("lookback")
    if type(found) is not int or not 0 <= found <= MAX_LOOKBACK:
        raise StrategyFailed(
            f"{name}: lookback is {_plain(repr(found))[:40]}, "
            f"not a whole number of bars from 0 to {MAX_LOOKBACK}"
        )
    return found


def _analysis(name: str, results: Mapping[str, Array], shape: tuple[int, ...]) -> Analysis:
    parts: dict[str, Any] = {"diagnostics": {}}
    for key, values in results.items():
        if values.dtype.name != result_dtype(key) or values.shape != shape:
            raise AnalysisError(
                f"{name}: {_plain(key)} is {values.dtype} {values.shape}, "
                f"not {result_dtype(key)} {shape}"
            )
        group, _, diagnostic = key.partition(":")
        if diagnostic:
            parts.setdefault(group, {})[_plain(diagnostic)[:64]] = values
        else:
            parts[group] = values
    try:
        return Analysis(**parts)
    except TypeError:
        raise AnalysisError(f"{name}: what it returned is no Analysis") from None


def _declaration(name: str, answer: Mapping[str, Any]) -> Declaration:
    """The checked declaration of an answer. Raises StrategyFailed."""
    timeframe, series = answer.get("timeframe"), answer.get("macro_series")
    if timeframe not in TIMEFRAMES:
        known = ", ".join(TIMEFRAMES)
        raise StrategyFailed(f"{name}: timeframe {_plain(timeframe)!r} is not one of {known}")
    if not isinstance(series, list) or len(series) > MAX_SERIES:
        raise StrategyFailed(f"{name}: macro_series is not a tuple of series")
    for each in series:
        if each not in MACRO_SERIES:
            known = ", ".join(MACRO_SERIES)
            raise StrategyFailed(f"{name}: macro series {_plain(each)!r} is not one of {known}")
    rules = answer.get("rules")
    if not isinstance(rules, list) or len(rules) > MAX_RULES:
        raise StrategyFailed(f"{name}: more than {MAX_RULES} parameters")
    return Declaration(
        name=name,
        timeframe=str(timeframe),
        macro_series=tuple(series),
        compares=answer.get("compares") is True,
        rules=tuple(_rule(name, rule) for rule in rules),
        about=_plain(answer.get("about", ""), limit=2 * TEXT_LIMIT),
    )


def _rule(name: str, content: Any) -> ParameterRule:
    try:
        rule = ParameterRule(
            name=str(content["name"]),
            default=content["default"],
            is_whole=bool(content["is_whole"]),
            low=float(content["low"]),
            high=float(content["high"]),
            unit=_plain(content["unit"]),
            text=_plain(content["text"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise StrategyFailed(f"{name}: a parameter is not declared with parameter(...)") from None
    if not (rule.name.isidentifier() and rule.name.isascii() and len(rule.name) <= 64):
        raise StrategyFailed(f"{name}: {_plain(rule.name)} is no name of a parameter")
    if not (math.isfinite(rule.low) and math.isfinite(rule.high) and rule.low <= rule.high):
        raise StrategyFailed(f"{name}: {rule.name} has no finite range")
    if rule.default is None:
        raise StrategyFailed(f"{name}: {rule.name} has no default")
    try:
        checked_values([rule], {})
    except ParameterError as error:
        raise StrategyFailed(f"{name}: the default of {error}") from None
    return rule


def _raise(name: str, asked: str, answer: Mapping[str, Any]) -> NoReturn:
    text = f"{name}: {_plain(answer.get('text', ''), limit=TEXT_LIMIT)}"
    if answer["error"] == "market":
        raise MarketError(text)
    if answer["error"] == "contract" and asked == "analyze":
        raise AnalysisError(text)
    raise StrategyFailed(text)


def _plain(text: Any, limit: int = 200) -> str:
    """A stranger's words as any page, log line and table takes them."""
    words = text if isinstance(text, str) else repr(text)
    shown = "".join(each if each.isprintable() else " " for each in words[:limit])
    return shown.encode("utf-8", "replace").decode()


@cache
def _child_sha256() -> str:
    return hashlib.sha256(Path(__file__).with_name("child.py").read_bytes()).hexdigest()


def _kill_all(processes: list[HostProcess]) -> None:
    while processes:
        processes.pop().kill()


__all__ = [
    "Declaration",
    "Host",
    "HostedStrategy",
    "StrategyCrashed",
    "StrategyFailed",
    "StrategyTimeout",
]
