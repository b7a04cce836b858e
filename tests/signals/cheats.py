"""Strategies that look ahead or remember, and honest ones that might be mistaken for them."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from collectors.marketdata import from_ms
from signals.indicators import bars_since, percentile_rank, rolling_max, rsi
from signals.parameters import parameter
from signals.strategy import Analysis, Strategy

DAY = 24


@dataclass(frozen=True, kw_only=True)
class Rule(Strategy):
    """Long where a score is positive. The subclasses give the score."""

    name: ClassVar[str] = "rule"
    timeframe: ClassVar[str] = "1h"
    macro_series: ClassVar[tuple[str, ...]] = ("VIXCLS",)
    lookback: ClassVar[int] = 48

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
            diagnostics={"score": np.where(score > 0.0, 1.0, np.nan)},
        )


def momentum(market):
    score = np.zeros_like(market.close)
    score[5:] = market.close[5:] - market.close[:-5]
    return score


def next_close(market):
    """The close of the next bar; of the last bar its own."""
    return np.vstack([market.close[1:], market.close[-1:]])


class Honest(Rule):
    def score(self, market):
        return momentum(market)


class HonestRecursive(Rule):
    """RSI and a running extreme depend on where history starts, and on nothing to come."""

    def score(self, market):
        reached = market.close / rolling_max(market.close, 30) + percentile_rank(
            market.macro["VIXCLS"], 40
        ).reshape(-1, 1)
        return rsi(market.close, 14) - 45.0 + reached + bars_since(market.valid)


@dataclass(frozen=True, kw_only=True)
class Adjustable(Rule):
    """Honest unless its distance is 9."""

    distance: int = parameter(default=5, low=1, high=10, unit="bars", text="looked back")

    def score(self, market):
        if self.distance == 9:
            return next_close(market) - market.close
        return momentum(market) / self.distance


# Look ahead in what they are given.


class Shifted(Rule):
    """`shift(-1)`: knows the next close."""

    def score(self, market):
        return next_close(market) - market.close


class Centred(Rule):
    """Compares with the middle of a window."""

    def score(self, market):
        kernel, bars = np.ones(21) / 21, len(market.close)
        means = [np.convolve(column, kernel)[10 : 10 + bars] for column in market.close.T]
        return market.close - np.column_stack(means)


class Normalised(Rule):
    """Takes mean and deviation over everything it is given."""

    def score(self, market):
        return (market.close - market.close.mean(axis=0)) / (market.close.std(axis=0) + 1e-9)


class EarlyMacro(Rule):
    """Uses the macro value that is released next, one release before it is."""

    def score(self, market):
        vix = market.macro["VIXCLS"]
        changes = np.append(np.flatnonzero(np.diff(vix)) + 1, len(vix) - 1)
        released_next = vix[changes[np.searchsorted(changes[:-1], np.arange(len(vix)), "right")]]
        return (25.0 - released_next)[:, np.newaxis] * np.ones_like(market.close)


class NextValidity(Rule):
    """Knows which of the next bars is a hole."""

    def score(self, market):
        return np.vstack([~market.valid[1:], np.zeros_like(market.valid[:1])]).astype(float)


class CutDependent(Rule):
    """Its rows look at the last of all bars it is given."""

    def score(self, market):
        return market.close - market.close[-1:]


class CrashShy(Rule):
    """Looks ahead only where the next bar brings what the built world has not: a fall by nine
    tenths."""

    def score(self, market):
        return np.where(next_close(market) < 0.1 * market.close, -1.0, momentum(market))


class LateCheat(Rule):
    """Looks ahead only in the last hundredth of all that it was ever tried on."""

    def score(self, market):
        late = from_ms(int(market.open_time[-1])).timestamp() >= 1_630_886_400  # 6 September 2021
        ahead = next_close(market) - market.close
        rows = (market.open_time >= 1_630_886_400_000)[:, np.newaxis]
        return np.where(rows & late, ahead, momentum(market))


class MonthEndCheat(Rule):
    """Looks ahead only from the last bar of a month to the first of the next."""

    def score(self, market):
        months = market.open_time.astype("datetime64[ms]").astype("datetime64[M]")
        last = np.append(months[1:] != months[:-1], False)[:, np.newaxis]
        return np.where(last, next_close(market) - market.close, momentum(market))


class DriverCheat(Rule):
    """Looks ahead only where the driver asks: on data that begins its lookback before a month."""

    def score(self, market):
        first = from_ms(int(market.open_time[0]) + self.lookback * 3_600_000)
        if (first.day, first.hour) != (1, 0):
            return momentum(market)
        return next_close(market) - market.close


class BehindTheView(Rule):
    """Reads on in the memory that its arrays are a view of, at one bar."""

    def score(self, market):
        score, close, times = momentum(market), market.close, market.open_time
        if close.base is not None and times.base is not None:
            close, times = close.base, times.base
        at = np.searchsorted(times, 1_630_666_800_000)  # 3 September 2021, 11:00
        row = np.searchsorted(market.open_time, 1_630_666_800_000)
        if row < len(score) and at + 1 < len(close):
            score[row] = -1.0 if close[at + 1, 0] > close[at, 0] else 1.0
        return score


class LongCheat(Rule):
    """Looks ahead only where it is given more bars than the built world has."""

    def score(self, market):
        ahead = next_close(market) - market.close
        return ahead if len(market.close) > 400 else momentum(market)


class Ranked(Rule):
    """Compares each instrument with the mean of all."""

    def score(self, market):
        moved = momentum(market) / market.close
        return moved - moved.mean(axis=1, keepdims=True)


class RankedOpenly(Ranked):
    compares = True


class Needy(Rule):
    """Cannot do without bitcoin."""

    def score(self, market):
        return momentum(market) * market.valid[:, [market.column("bitcoin")]]


class CrowdCheat(Rule):
    """Looks ahead only where there are more instruments than it is mostly tried on."""

    def score(self, market):
        ahead = next_close(market) - market.close
        return ahead if market.close.shape[1] > 8 else momentum(market)


class _Elsewhere(Rule):
    """An honest direction; something else knows the next close."""

    output: ClassVar[str]

    def score(self, market):
        return momentum(market)

    def analyze(self, market):
        honest = super().analyze(market)
        rises = next_close(market) > market.close
        values = {
            "confidence": np.where(rises, 0.9, 0.1),
            "stop_loss": np.minimum(market.close, next_close(market)) * 0.9,
            "take_profit": np.maximum(market.close, next_close(market)) * 1.01,
            "position_size": np.where(rises, 0.05, 0.01),
            "diagnostics": {"rises": rises.astype(float)},
        }
        return Analysis(**vars(honest) | {self.output: values[self.output]})


class CheatInConfidence(_Elsewhere):
    output = "confidence"


class CheatInStop(_Elsewhere):
    output = "stop_loss"


class CheatInTarget(_Elsewhere):
    output = "take_profit"


class CheatInSize(_Elsewhere):
    output = "position_size"


class CheatInDiagnostics(_Elsewhere):
    output = "diagnostics"


# Remember between calls.

CALLS = []
HIGHEST = {}
SEEN_CLOSES = {}
FIRST_ANSWERS = {}


class GlobalCount(Rule):
    """Answers by how often it was asked."""

    def score(self, market):
        CALLS.append(1)
        return momentum(market) * (-1.0) ** len(CALLS)


class GlobalExtreme(Rule):
    """Compares with the highest close of all that it was ever given."""

    def score(self, market):
        HIGHEST["close"] = np.maximum(HIGHEST.get("close", 0.0), market.close.max(axis=0))
        return market.close - 0.8 * HIGHEST["close"]


class GlobalFuture(Rule):
    """Looks up what an earlier call has shown of the bars that are still to come."""

    def score(self, market):
        hour = 3_600_000
        score = momentum(market)
        for row, moment in enumerate(market.open_time):
            ahead = SEEN_CLOSES.get(int(moment) + hour)
            score[row] = score[row] if ahead is None else ahead - market.close[row]
        SEEN_CLOSES.update(zip((int(each) for each in market.open_time), market.close, strict=True))
        return score


class CachedByTime(Rule):
    """Computes a bar with all that there is, once, and keeps the answer."""

    def score(self, market):
        score = market.close - market.close.mean(axis=0)
        for row, moment in enumerate(market.open_time):
            score[row] = FIRST_ANSWERS.setdefault(int(moment), score[row].copy())
        return score


class ClassAttribute(Rule):
    """The class remembers the last close that any of its instances saw."""

    last: ClassVar = None

    def score(self, market):
        before = type(self).last
        type(self).last = market.close[-1].copy()
        return momentum(market) if before is None else market.close - before


def _remembering():
    longest = 0

    def is_first_of_its_length(bars):
        nonlocal longest
        longest, before = max(longest, bars), longest
        return bars > before

    return is_first_of_its_length


class Closure(Rule):
    """A closure knows whether so many bars were ever given before: then it is a replay."""

    is_first = staticmethod(_remembering())

    def score(self, market):
        return momentum(market) * (1.0 if self.is_first(len(market.open_time)) else -1.0)


class Random(Rule):
    """Throws dice."""

    def score(self, market):
        return np.random.default_rng().normal(size=market.close.shape)


# Do what no strategy may do.


class Raising(Rule):
    def score(self, market):
        raise ZeroDivisionError("no score")


class RaisingLate(Rule):
    """Cannot do with one single bar."""

    def score(self, market):
        return market.close - market.close[1]


class Unmakeable(Honest):
    """Cannot even be made."""

    def __init__(self):
        raise ZeroDivisionError("no parameters")


class Impossible(Honest):
    def analyze(self, market):
        analysis = super().analyze(market)
        analysis.confidence[:] = 1.2
        return analysis


class Infinite(Honest):
    def analyze(self, market):
        analysis = super().analyze(market)
        analysis.diagnostics["score"][7] = np.inf
        return analysis


class Writing(Rule):
    """Writes into what it is given."""

    def score(self, market):
        market.close[0] = 1.0
        return momentum(market)


class SeesStoredOnly(Rule):
    """Looks ahead only on days that the built worlds do not reach, or are not tried at."""

    def score(self, market):
        ahead = next_close(market) - market.close
        late = (market.open_time >= 1_631_232_000_000)[:, np.newaxis]  # 10 September 2021
        return np.where(late, ahead, momentum(market))


class SeesSpringOnly(Rule):
    """Looks ahead only in the first half of a year."""

    def score(self, market):
        months = market.open_time.astype("datetime64[ms]").astype("datetime64[M]").astype(int) % 12
        ahead = next_close(market) - market.close
        return np.where((months < 6)[:, np.newaxis], ahead, momentum(market))
