"""Which of several exchanges' streamed candles is stored: the best source's, and when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from collectors import clock
from collectors.feeds import StreamedCandle
from collectors.marketdata import Candle, candle_key, duration
from collectors.models import Instrument
from collectors.quality import Finding, compare_sources, reject_candle
from collectors.services.findings import record_findings
from collectors.services.search import BAR_RUN_PATIENCE
from collectors.services.streaming import Subscription

SeriesKey = tuple[str, str]  # coin id, timeframe
Due = dict[str, dict[Instrument, list[Candle]]]  # by timeframe


@dataclass
class _Held:
    """A worse source's candle that waits for the best source's."""

    candle: Candle
    until: float


class CandleChoice:
    """Decides when a streamed candle is due to be stored. For one thread, but for `follow`.

    The best exchange's candle is due at once. Another exchange's is held for half the time that
    a bar run waits, and due only if nothing better has come by then: which venue's message was a
    moment faster must not decide what a strategy sees.

    A candle that an exchange closes while our clock, which may run behind, has still some seconds
    to go, waits for our clock.

    Of two exchanges' candles of one bar the worse is not stored, but compared: where they close
    far apart, that is a finding, and so is a candle given to `reject`, which cannot be true.
    """

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self.follow(subscriptions)
        self._findings: dict[tuple[Instrument, str], list[Finding]] = {}
        self._held: dict[tuple[Instrument, str, datetime], _Held] = {}
        self._early: list[StreamedCandle] = []
        self._newest: dict[SeriesKey, Candle] = {}
        patience = clock.current().widen(BAR_RUN_PATIENCE) / 2
        self.patience_s = patience.total_seconds() / clock.current().speed

    def follow(self, subscriptions: Sequence[Subscription]) -> None:
        """Take the candles of these subscriptions from now on."""
        self._subscriptions = {(item.exchange, item.symbol): item for item in subscriptions}

    @property
    def early(self) -> int:
        """How many candles wait for our clock."""
        return len(self._early)

    def reject(self, item: StreamedCandle, reason: str) -> None:
        """Note the finding that a candle cannot be true."""
        self._note(item, reject_candle(item.candle, reason))

    def due(self, batch: Sequence[StreamedCandle]) -> Due:
        """The candles to store now, by timeframe and instrument."""
        due: Due = {}
        for item in self._ripe(batch):
            subscription = self._subscriptions.get((item.exchange, item.symbol))
            if subscription is None:
                continue
            instrument, at = subscription.instrument, item.candle.open_time
            key = (instrument.coin_id, item.timeframe)
            newest = self._newest.get(key)
            if subscription.rank == 0:
                held = self._held.pop((instrument, item.timeframe, at), None)
                if held is not None:
                    self._note(item, compare_sources(item.candle, held.candle))
                due.setdefault(item.timeframe, {}).setdefault(instrument, []).append(item.candle)
                # One from the future, which is not stored, must not keep others out until then.
                if at <= clock.now() and (newest is None or at >= newest.open_time):
                    self._newest[key] = item.candle
            elif newest is None or newest.open_time < at:
                held = _Held(item.candle, time.monotonic() + self.patience_s)
                self._held.setdefault((instrument, item.timeframe, at), held)
            elif newest.open_time == at:
                self._note(item, compare_sources(newest, item.candle))
        now = time.monotonic()
        for held_key in [key for key, held in self._held.items() if held.until <= now]:
            instrument, timeframe, _ = held_key
            candle = self._held.pop(held_key).candle
            due.setdefault(timeframe, {}).setdefault(instrument, []).append(candle)
        return due

    def record_findings(self) -> None:
        """Write what was found."""
        for (instrument, timeframe), findings in self._findings.items():
            subject = candle_key(instrument.coin_id, timeframe)
            record_findings(subject=subject, findings=findings, instrument=instrument)
        self._findings.clear()

    def _ripe(self, batch: Sequence[StreamedCandle]) -> list[StreamedCandle]:
        """The candles, and those that waited, whose bars are over by our clock or far from it."""
        now = clock.now()
        most = clock.current().widen(BAR_RUN_PATIENCE)
        ripe: list[StreamedCandle] = []
        early: list[StreamedCandle] = []
        for item in [*self._early, *batch]:
            ahead = item.candle.open_time + duration(item.timeframe) - now
            (early if timedelta(0) < ahead <= most else ripe).append(item)
        self._early = early
        return ripe

    def _note(self, item: StreamedCandle, finding: Finding | None) -> None:
        subscription = self._subscriptions.get((item.exchange, item.symbol))
        if finding is not None and subscription is not None:
            key = (subscription.instrument, item.timeframe)
            self._findings.setdefault(key, []).append(finding)
