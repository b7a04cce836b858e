"""Strategy files in processes of their own: what they get, and what they cannot do to us."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from examples import oversold_calm
from signals import certificate
from signals.hosting.files import StrategyFile
from signals.hosting.hosted import (
    Declaration,
    Host,
    HostedStrategy,
    StrategyFailed,
    StrategyTimeout,
)
from signals.hosting.limits import HostLimits
from signals.hosting.wire import named_arrays
from signals.parameters import ParameterError
from signals.strategy import AnalysisError, MarketError, StrategyError
from tests.signals.hostfiles import file_of

SHORT = HostLimits(call_s=0.4, load_s=0.4)
LARGE = 700  # columns: a market of several times what a pipe holds


@pytest.fixture
def market(make_market):
    """Thirty bars of two instruments, the second above 100 from bar 15 on."""
    return make_market(np.column_stack([np.full(30, 50.0), np.linspace(70.0, 130.0, 30)]))


@pytest.fixture
def hosted():
    """Builds strategies of files; their processes end with the test."""
    hosts = []

    def build(*, limits=None, parameters=None, **parts) -> HostedStrategy:
        host = Host(file_of(**parts), limits)
        hosts.append(host)
        return HostedStrategy(host, host.declaration(), parameters)

    yield build
    for host in hosts:
        host.close()


def children() -> set[int]:
    """The processes of strategy files that we have."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {int(line.split()[0]) for line in listed.stdout.splitlines() if "hosting.child" in line}


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def until(is_so, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# -- What a sound file gets and gives -------------------------------------------------------------


def test_a_file_declares_itself_and_is_computed_as_if_it_were_ours(hosted, market):
    strategy = hosted(parameters={"level": 100}, series='("VIXCLS",)')
    assert (strategy.name, strategy.timeframe, strategy.lookback) == ("drop", "1h", 5)
    assert strategy.macro_series == ("VIXCLS",)
    assert strategy.get_parameters() == {"level": 100.0}
    found = strategy.analyze(market)
    above = market.close > 100.0
    assert found.direction.dtype == np.int8
    assert np.array_equal(found.direction, above.astype(np.int8))
    assert np.array_equal(found.stop_loss, market.close * 0.9)
    assert np.array_equal(found.diagnostics["above"], market.close - 100.0)


def test_the_example_is_computed_to_the_last_bit_as_in_our_process(random_market, monkeypatch):
    source = Path(oversold_calm.__file__).read_bytes()
    host = Host(StrategyFile("oversold_calm", source, hashlib.sha256(source).hexdigest()))
    hosted = HostedStrategy(host, host.declaration())
    ours = oversold_calm.OversoldCalm()
    market = random_market(seed=3, bars=600)
    found, expected = hosted.analyze(market), ours.analyze(market)
    assert expected.direction.any()
    for (name, values), (_, wanted) in zip(
        named_arrays(found), named_arrays(expected), strict=True
    ):
        assert np.array_equal(values, wanted, equal_nan=True), name
    assert hosted.get_parameters() == ours.get_parameters()
    monkeypatch.setattr(certificate, "LEAST_BARS", 60)
    assert certificate.certify(lambda: ours).is_passed
    host.close()


def test_the_declaration_survives_the_database(hosted):
    declared = hosted()._declaration
    assert Declaration.from_json(declared.as_json()) == declared
    [rule] = declared.rules
    assert (rule.name, rule.default, rule.low, rule.unit) == ("level", 0.0, 0.0, "price")
    assert declared.about == "Long above a level."


def test_parameters_are_held_to_the_declared_ranges(hosted):
    with pytest.raises(ParameterError, match="level: -1 is outside 0 to 1e\\+09 price"):
        hosted(parameters={"level": -1})


def test_a_market_larger_than_a_pipe(hosted, make_market):
    wide = make_market(np.random.default_rng(1).uniform(50, 150, size=(500, LARGE)))
    found = hosted(parameters={"level": 100.0}).analyze(wide)
    assert np.array_equal(found.direction, (wide.close > 100.0).astype(np.int8))


def test_one_process_serves_one_call_after_the_other(hosted, market):
    strategy = hosted()
    before = children()
    for _ in range(5):
        strategy.analyze(market)
    assert children() == before


def test_two_threads_at_once_are_both_answered(hosted, market):
    strategy, results = hosted(analyze="time.sleep(0.2)"), []
    strategy.analyze(market)  # not to wait for a process to start
    began = time.monotonic()
    threads = [
        threading.Thread(target=lambda: results.append(strategy.analyze(market))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert time.monotonic() - began < 10.0


def test_a_fresh_one_remembers_nothing(hosted, market):
    strategy = hosted(
        before="calls = []", analyze="calls.append(1)", sign="(1 if calls[1:] else 0)"
    )
    first, second = strategy.analyze(market), strategy.analyze(market)
    assert not np.array_equal(first.direction, second.direction)
    assert np.array_equal(strategy.fresh().analyze(market).direction, first.direction)


def test_nothing_secret_is_in_its_environment(hosted, market, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "tell nobody")
    with pytest.raises(StrategyFailed) as caught:
        hosted(analyze="raise ValueError(sorted(os.environ))").analyze(market)
    assert "SECRET_KEY" not in str(caught.value)
    assert "PYTHONPATH" in str(caught.value)


# -- What it may do wrong --------------------------------------------------------------------------

HANGING = {
    "computes": "while True: pass",
    # Deep in C, with the interpreter's lock, and deaf to every signal that one can be deaf to.
    "is deaf": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60))\n"
    "ctypes.PyDLL(None).sleep(60)",
}


@pytest.mark.parametrize("what", HANGING)
def test_what_never_returns_is_stopped(hosted, market, what):
    strategy = hosted(limits=SHORT, analyze=f"if len(market.close) > 20:\n    {HANGING[what]}")
    began = time.monotonic()
    with pytest.raises(StrategyTimeout, match=r"drop: no answer within 0\.4 s"):
        strategy.analyze(market)
    assert time.monotonic() - began < 5.0


def test_all_calls_together_have_a_limit_too(hosted, market):
    strategy = hosted(analyze="time.sleep(0.2)")
    strategy._trial.left = 0.5
    with pytest.raises(StrategyTimeout):
        for _ in range(3):
            strategy.fresh().analyze(market)


def test_a_file_that_hangs_at_import_is_stopped(hosted):
    before = children()
    with pytest.raises(StrategyTimeout):
        hosted(limits=SHORT, before="time.sleep(60)")
    assert children() == before


PIPES = """
pipes = [
    fd for fd in range(3, 20)
    if os.path.exists(f"/proc/self/fd/{fd}") and "pipe" in os.readlink(f"/proc/self/fd/{fd}")
]
def shout(words):
    for fd in pipes:
        try:
            os.write(fd, words)
        except OSError:
            pass
"""
WRONG_FILES = {
    "does not parse": ("def (", "SyntaxError"),
    "does not import": ("import no_such_thing", r"ModuleNotFoundError.*\(line 12\)"),
    "exits": ("raise SystemExit(3)", r"SystemExit: 3 \(line 12\)"),
    "leaves": ("os._exit(0)", r"ended without an answer \(exit status 0\)"),
    "crashes": ("ctypes.string_at(0)", r"ended without an answer \(SIGSEGV\)"),
    "writes garbage": (PIPES + "shout(b'garbage' * 9)", "is no frame"),
    "closes its pipe": ("os.closerange(0, 64)", "ended without an answer"),
    "declares a second": (
        "class Other(Strategy):\n    lookback = 1\n    def analyze(s, m): ...",
        "declare one class that derives from Strategy; found: Other, Drop",
    ),
    "starts a process": ("subprocess.run(['true'])", "a strategy starts no process"),
    "calls somebody": ("import socket; socket.create_connection(('127.0.0.1', 9))", "calls nobody"),
}


@pytest.mark.parametrize("what", WRONG_FILES)
def test_a_file_that_does_wrong_at_import_is_refused(hosted, what):
    code, message = WRONG_FILES[what]
    before = children()
    with pytest.raises(StrategyError, match=f"^drop: .*{message}"):
        hosted(before=code, limits=dataclasses.replace(SHORT, load_s=5.0))
    assert children() == before


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"timeframe": "7m"}, "timeframe '7m' is not one of"),
        ({"series": "('GDP',)"}, "macro series 'GDP' is not one of"),
        ({"level": "-5.0"}, "the default of level: -5.0 is outside"),
        ({"level": "None"}, "level has no default"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(hosted, parts, message):
    with pytest.raises(StrategyError, match=message):
        hosted(**parts)


@pytest.mark.parametrize("lookback", ["2.5", "10**9", "1/0"])
def test_a_lookback_that_cannot_be_is_refused(hosted, lookback):
    with pytest.raises(StrategyFailed, match=r"drop: (lookback is|ZeroDivisionError)"):
        _ = hosted(lookback=lookback).lookback


WRONG_ANALYSES = {
    "raises": ("{}['x']", StrategyFailed, r"KeyError: 'x' \(line 28\)"),
    "mutates its input": ("market.close[0] = 1.0", StrategyFailed, "read-only"),
    "lacks an instrument": ("market.column('doge')", MarketError, "doge is not among"),
    "returns objects": ("return Analysis(**dict.fromkeys(['direction', 'confidence', 'stop_loss',"
                        " 'take_profit', 'position_size'], np.array([object()])))",
                        AnalysisError, "direction is object"),
    "returns lists": ("return Analysis(**dict.fromkeys(['direction', 'confidence', 'stop_loss',"
                      " 'take_profit', 'position_size'], [1]))", AnalysisError, "is list, not an"),
    "allocates without end": ("kept = [np.empty(10_000_000) for _ in range(10_000)]",
                              StrategyFailed, "MemoryError"),
    "raises what cannot be said": ("""
        class Rude(Exception):
            def __str__(self):
                raise RuntimeError
        raise Rude
        """, StrategyFailed, "cannot be said"),
    "raises a book": ("raise ValueError('\\x00\\ud800' * 10**6)", StrategyFailed, "ValueError"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_ANALYSES)
def test_an_analysis_that_does_wrong_is_refused(hosted, market, what):
    code, kind, message = WRONG_ANALYSES[what]
    with pytest.raises(kind, match=f"^drop: .*{message}") as caught:
        hosted(analyze=code).analyze(market)
    assert len(str(caught.value)) < 600
    str(caught.value).encode()
    assert "\x00" not in str(caught.value)


@pytest.mark.parametrize("what", ["1 / 0", "os._exit(1)", "market.column('doge')"])
def test_after_a_fault_the_next_one_is_computed(hosted, market, what):
    strategy = hosted(analyze=f"if len(market.close) > 20:\n    {what}")
    with pytest.raises(StrategyError):
        strategy.analyze(market)
    assert strategy.analyze(market.rows(0, 10)).direction.shape == (10, 2)


@pytest.mark.parametrize("sign", ["1.0", "np.ones((30, 1, 1), dtype=np.int8)"])
def test_arrays_of_another_kind_or_shape_are_refused(hosted, market, sign):
    strategy = hosted(sign=sign)
    with pytest.raises(StrategyError, match="drop: "):
        strategy.analyze(market)


def test_prints_of_megabytes_disturb_nobody(hosted, market):
    loud = "print('x' * 5_000_000); os.write(1, b'y' * 300_000); os.write(2, b'z' * 300_000)"
    assert hosted(before=loud, analyze=loud).analyze(market).direction.shape == (30, 2)


def test_an_answer_before_the_question_is_no_answer(hosted, market):
    forged = b'{"id": 2, "arrays": []}'
    words = len(forged).to_bytes(4, "big") + forged
    strategy = hosted(before=PIPES, analyze=f"if len(market.close) > 20:\n    shout({words})")
    with pytest.raises(AnalysisError, match="no Analysis"):
        strategy.analyze(market)
    assert strategy.analyze(market.rows(0, 10)).direction.shape == (10, 2)


# -- When it ends ----------------------------------------------------------------------------------


def test_what_it_started_ends_with_it(hosted, market, tmp_path):
    found = tmp_path / "pid"
    found.touch()
    forked = f"""
    child = ctypes.CDLL(None).fork()
    if child == 0:
        time.sleep(60)
    open({str(found)!r}, "w").write(str(child))
    time.sleep(60)
    """
    strategy = hosted(limits=dataclasses.replace(SHORT, call_s=1.0), analyze=forked)
    with pytest.raises(StrategyTimeout):
        strategy.analyze(market)
    assert until(lambda: not is_alive(int(found.read_text())))


PARENT = """
import sys, threading, time
from signals.hosting.hosted import Host
from tests.signals.hostfiles import file_of

def run():
    host = Host(file_of(before="import os"))
    host.declaration()
    kept.append(host)

kept = []
thread = threading.Thread(target=run)
thread.start()
thread.join()
time.sleep(0.2)
[process] = kept[0]._idle
print(process._child.pid, process.is_fresh, flush=True)
time.sleep(60)
"""


def test_it_outlives_the_thread_that_asked_for_it_and_not_the_process():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    pid, is_fresh = parent.stdout.readline().split()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert is_fresh == "True"
    assert until(lambda: not is_alive(int(pid)))


def test_a_host_that_nobody_holds_ends_its_processes(market):
    before = children()
    host = Host(file_of())
    host.declaration()
    assert len(children() - before) == 1
    del host
    assert until(lambda: children() == before)
