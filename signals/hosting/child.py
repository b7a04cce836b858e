"""The process of one strategy file: executes it once, then answers for it until its pipe ends.

Run by `signals.hosting.process`. Whatever the file prints goes nowhere, the pipes to the host are
kept out of its way, and what it raises is answered as words.
"""

from __future__ import annotations

import ctypes
import dataclasses
import inspect
import io
import json
import linecache
import os
import resource
import signal
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from signals.hosting.wire import (
    Array,
    decode_arrays,
    encode,
    header_length,
    named_arrays,
    parse_header,
    result_dtype,
)
from signals.parameters import build_with, parameter_rules
from signals.strategy import Analysis, Market, MarketError, Strategy

PR_SET_PDEATHSIG = 1
TEXT_LIMIT = 400
REFUSED = frozenset(
    {
        *("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system"),
        *("pty.spawn", "subprocess.Popen"),
        *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"),
    }
)


class ContractError(Exception):
    """The file declares no strategy as it must be."""


class Nowhere(io.TextIOBase):
    """Where prints go."""

    def write(self, text: str) -> int:
        return len(text)


def main() -> None:
    """Serve the host until it closes the pipe."""
    tie_to(int(sys.argv[1]))
    questions, answers = claim_pipes()
    send(answers, {"id": 0}, {})  # Python and NumPy have started: the file's own time begins
    restrain(json.loads(sys.argv[2]))
    desk = Desk()
    while (question := receive(questions)) is not None:
        header, arrays = question
        answer, results = desk.answer(header, arrays)
        send(answers, {"id": header["id"], **answer}, results)


def tie_to(host: int) -> None:
    """Have the kernel kill us when the host ends (Linux; elsewhere the pipe's end must do)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != host:
        raise SystemExit(1)


def claim_pipes() -> tuple[int, int]:
    """The host's pipes, moved to where no print or input of the file's can reach them."""
    questions, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    sys.stdout = sys.stderr = Nowhere()
    return questions, answers


def restrain(limits: Mapping[str, Any]) -> None:
    """Take the limits on, for good, and leave processes and the network alone.

    This stops mistakes, not malice: the file is the user's own, and runs with the user's rights.
    """
    for kind, limit in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(kind, (limit, limit))
        except (ValueError, OSError):  # a lower one is in force already
            continue

    def refuse(event: str, _: object) -> None:
        if event in REFUSED:
            raise PermissionError(f"{event}: a strategy starts no process and calls nobody")

    sys.addaudithook(refuse)


class Desk:
    """Answers what the host asks of the file."""

    def __init__(self) -> None:
        self._kind: type[Strategy] | None = None
        self._built: dict[str, Strategy] = {}
        self._file = ""

    def answer(
        self, header: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """The answer to a question, or what was raised, in words."""
        work: dict[str, Callable[..., Any]] = {
            "load": self._load, "lookback": self._lookback, "analyze": self._analyze
        }  # fmt: skip
        try:
            return work[header["ask"]](header, arrays)  # type: ignore[no-any-return]
        except MarketError as error:
            return {"error": "market", "text": str(error)[:TEXT_LIMIT]}, {}
        except ContractError as error:
            return {"error": "contract", "text": str(error)[:TEXT_LIMIT]}, {}
        except BaseException as error:  # SystemExit and the like end no more than the call
            return {"error": "raised", "text": self._words(error)}, {}

    def _load(
        self, header: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        name, source = header["name"], arrays["source"].tobytes()
        self._file = f"{name}.py"
        module = types.ModuleType(f"mts_strategy_file_{name}")
        module.__file__ = self._file
        sys.modules[module.__name__] = module
        lines = source.decode("utf-8", "replace").splitlines(keepends=True)
        linecache.cache[self._file] = (len(source), None, lines, self._file)
        exec(compile(source, self._file, "exec"), module.__dict__)
        self._kind = kind = declared_strategy(module, name)
        rules = [dataclasses.asdict(rule) for rule in parameter_rules(kind)]
        about = inspect.cleandoc(module.__doc__ or kind.__doc__ or "")
        return {
            "timeframe": kind.timeframe,
            "macro_series": list(kind.macro_series),
            "compares": bool(kind.compares),
            "rules": rules,
            "about": about[:TEXT_LIMIT],
        }, {}

    def _lookback(
        self, header: Mapping[str, Any], _: Mapping[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        return {"lookback": self._strategy(header["parameters"]).lookback}, {}

    def _analyze(
        self, header: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        strategy = self._strategy(header["parameters"])
        market = market_of(header["market"], arrays)
        analysis = strategy.analyze(market)
        if not isinstance(analysis, Analysis):
            raise ContractError(f"analyze returned {type(analysis).__name__}, not an Analysis")
        return {}, results_of(analysis, market.close.shape)

    def _strategy(self, parameters: Mapping[str, Any]) -> Strategy:
        if self._kind is None:
            raise ContractError("no file is loaded")
        key = json.dumps(parameters, sort_keys=True)
        if key not in self._built:
            self._built = {key: build_with(self._kind, parameters)}
        return self._built[key]

    def _words(self, error: BaseException) -> str:
        """What was raised, and at which line of the file."""
        try:
            text = f"{type(error).__name__}: {error}"
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == self._file]
        except BaseException:
            return "raised what cannot be said"
        where = f" (line {lines[-1]})" if lines else ""
        return text[:TEXT_LIMIT] + where


def declared_strategy(module: types.ModuleType, name: str) -> type[Strategy]:
    """The one strategy of a file. Raises ContractError saying what it lacks."""
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, Strategy)
        and each.__module__ == module.__name__
        and not inspect.isabstract(each)
    ]
    if len(found) != 1:
        names = ", ".join(each.__name__ for each in found) or "none"
        raise ContractError(f"declare one class that derives from Strategy; found: {names}")
    kind = found[0]
    for attribute in ("name", "timeframe"):
        if not isinstance(getattr(kind, attribute, None), str):
            raise ContractError(f"{kind.__name__} has no {attribute}")
    if kind.name != name:
        raise ContractError(f"its name is {kind.name!r} and its file {name}.py: make them the same")
    is_frozen = "__dataclass_fields__" in vars(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    if not is_frozen:
        raise ContractError(f"{kind.__name__} is not @dataclass(frozen=True, kw_only=True)")
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if {"low", "high", "unit", "text"} - field.metadata.keys():
            raise ContractError(f"{field.name} is not declared with parameter(...)")
    return kind


def market_of(words: Mapping[str, Any], arrays: Mapping[str, Array]) -> Market:
    """The market of a question. Its arrays are read-only."""
    parts: dict[str, Any] = {**words, "instruments": tuple(words["instruments"])}
    for name, values in arrays.items():
        field, _, key = name.partition(":")
        if key:
            parts.setdefault(field, {})[key] = values
        else:
            parts[field] = values
    return Market(**parts)


def results_of(analysis: Analysis, shape: tuple[int, ...]) -> dict[str, Array]:
    """The arrays of an analysis by name, those of diagnostics behind a colon. Raises ContractError
    naming the first that is none of the market's shape."""
    found: dict[str, Array] = {}
    for name, values in named_arrays(analysis):
        if not isinstance(values, np.ndarray):
            raise ContractError(f"{name} is {type(values).__name__}, not an array")
        dtype = result_dtype(name)
        if values.dtype.name != dtype or values.shape != shape:
            raise ContractError(f"{name} is {values.dtype} {values.shape}, not {dtype} {shape}")
        found[name] = np.asarray(values)
    return found


def receive(descriptor: int) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """The next question; None at the pipe's end."""
    prefix = read(descriptor, 4)
    if len(prefix) < 4:
        return None
    header, specs = parse_header(read(descriptor, header_length(prefix)))
    return header, decode_arrays(specs, read(descriptor, sum(spec.size for spec in specs)))


def read(descriptor: int, size: int) -> bytes:
    """Exactly `size` bytes, fewer only at the pipe's end."""
    pieces = []
    while size:
        piece = os.read(descriptor, size)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def send(descriptor: int, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a frame whole."""
    for part in encode(header, arrays):
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()
