"""Strategies that look ahead are caught, with the bar named; ours pass, quickly."""

import time
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import pytest

from signals.certificate import certify, code_hash
from signals.registry import STRATEGIES, build_strategy
from signals.strategy import Analysis


class Rule(ABC):
    """Long where a score is positive. The subclasses give the score."""

    name: ClassVar[str] = "rule"
    timeframe: ClassVar[str] = "1h"
    macro_series: ClassVar[tuple[str, ...]] = ("VIXCLS",)
    lookback = 48

    @abstractmethod
    def score(self, market):
        """(B, K) doubles, positive where the rule wants to be long."""

    def analyze(self, market):
        score = self.score(market)
        return Analysis(
            direction=(score > 0.0).astype(np.int8),
            confidence=np.full(score.shape, 0.6),
            stop_loss=market.close * 0.95,
            take_profit=market.close * 1.1,
            position_size=np.full(score.shape, 0.02),
        )

    def get_parameters(self):
        return {}


class Honest(Rule):
    def score(self, market):
        score = np.zeros_like(market.close)
        score[5:] = market.close[5:] - market.close[:-5]
        return score


class Shifted(Rule):
    """Knows the next close."""

    def score(self, market):
        return np.vstack([np.diff(market.close, axis=0), np.zeros_like(market.close[:1])])


class Centred(Rule):
    """Compares with the middle of a window."""

    def score(self, market):
        kernel = np.ones(21) / 21
        mean = np.column_stack([np.convolve(column, kernel, "same") for column in market.close.T])
        return market.close - mean


class Normalised(Rule):
    """Takes mean and deviation over everything it is given."""

    def score(self, market):
        return (market.close - market.close.mean(axis=0)) / (market.close.std(axis=0) + 1e-9)


class NextMacro(Rule):
    """Uses tomorrow's macro value."""

    def score(self, market):
        ahead = np.roll(market.macro["VIXCLS"], -24)
        return (25.0 - ahead)[:, np.newaxis] * np.ones_like(market.close)


class Remembering(Rule):
    """Answers by what it was asked before."""

    def __init__(self):
        self.calls = 0

    def score(self, market):
        self.calls += 1
        return Honest.score(self, market) * (-1.0) ** self.calls


class StartDependent(Rule):
    """Needs more history than it says: its rows look at the last of all bars it is given."""

    def score(self, market):
        return market.close - market.close[-1:]


class Raising(Rule):
    def score(self, market):
        raise ZeroDivisionError("no score")


class Impossible(Honest):
    def analyze(self, market):
        analysis = Honest().analyze(market)
        analysis.confidence[:] = 1.2
        return analysis


def test_an_honest_rule_passes():
    certificate = certify(Honest())
    assert certificate.is_passed
    assert certificate.bars == 400
    assert certificate.active_rows > 50


@pytest.mark.parametrize("cheat", [Shifted, Centred, Normalised, NextMacro, StartDependent])
def test_a_look_ahead_is_caught_with_its_bar(cheat):
    certificate = certify(cheat())
    assert not certificate.is_passed
    assert certificate.failed_check.startswith("depends on")
    assert certificate.failing_bar is not None
    assert f"{certificate.failing_bar:%Y-%m-%d}" in str(certificate)


def test_a_strategy_that_remembers_is_caught():
    assert certify(Remembering()).failed_check == "not deterministic"


def test_a_strategy_that_raises_is_reported():
    certificate = certify(Raising())
    assert (certificate.failed_check, certificate.failing_output) == (
        "raised",
        "ZeroDivisionError: no score",
    )


def test_impossible_output_is_reported():
    certificate = certify(Impossible())
    assert certificate.failed_check == "impossible output"
    assert "confidence 1.2" in certificate.failing_output


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_registered_strategy_passes_within_two_seconds(name):
    began = time.process_time()
    certificate = certify(build_strategy(name))
    assert certificate.is_passed, str(certificate)
    assert certificate.active_rows > 100
    assert time.process_time() - began < 2.0


def test_the_hash_follows_the_parameters():
    first = code_hash(build_strategy("mean_reversion"))
    assert first == code_hash(build_strategy("mean_reversion", {"hold_bars": 24}))
    assert first != code_hash(build_strategy("mean_reversion", {"hold_bars": 12}))
