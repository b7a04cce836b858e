"""Alerts from outside: judged, and taken as signals, each once however it comes and how often."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from django.conf import settings
from django.db import connection, transaction

from collectors import clock
from collectors.marketdata import duration
from collectors.models import Instrument
from collectors.plainjson import shown
from collectors.selectors import instruments_named, is_named, known_names
from signals import events, publication
from signals.alertjson import AlertRefused, read_alert
from signals.models import AlertVerdict, OutsideAlert, Signal
from signals.outside import (
    Place,
    Stand,
    consensus_stands,
    newest_outside,
    outside_alerts,
    places_taken,
)
from signals.proposals import Admission, Proposal, alert_key, check_admission, read_proposal
from signals.registry import OUTSIDE
from signals.services.outcomes import open_outcomes

log = structlog.get_logger(__name__)

# How far a sender's clock may run before ours.
TOLERANCE = timedelta(seconds=30)
# Of what is refused so much is kept: a flood of rubbish is not to fill the database.
REFUSED_SAMPLE = 4_000
# Any constant will do, as long as nobody else in the database takes the same one.
INGEST_LOCK = 0x4D545349
OURS = "our own alert"


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Bytes that somebody sent. `problem` says why they could not even be read; `is_from_us` that
    they lie where our own alerts are written."""

    origin: str
    raw: bytes = b""
    problem: str = ""
    folder: str = ""
    file_name: str = ""
    received_by: str = ""
    is_from_us: bool = False


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The row that answers for an arrival; `is_new` when it was written now."""

    alert: OutsideAlert
    is_new: bool


@dataclass(kw_only=True)
class _Case:
    """An arrival while it is judged: a reason ends it. `signal` is what it proposes, if that is
    of a known asset."""

    arrival: Arrival
    proposal: Proposal | None = None
    signal: Signal | None = None
    key: str = ""
    reason: str = ""


def ingest_alerts(*, arrivals: Sequence[Arrival]) -> list[Judgement]:
    """Judge the arrivals and take what is accepted as signals, all in one transaction; one
    judgement each, in their order.

    An alert that is known gets the judgement of then. Whoever ingests waits for its turn, so what
    two senders bring at once is taken once. Raises DatabaseError; then nothing was written.
    """
    admission = current_admission()
    cases = [_read(arrival, admission) for arrival in arrivals]
    _name_assets(cases)
    with transaction.atomic():
        _wait_for_turn()
        return _settle(cases)


def current_admission() -> Admission:
    """Who is let in now, by the settings."""
    market = clock.current()
    return Admission(
        now=clock.now(),
        max_age=market.widen(timedelta(seconds=settings.ENV.ingest_max_age)),
        tolerance=market.widen(TOLERANCE),
        min_confidence=settings.ENV.ingest_min_confidence,
    )


def _read(arrival: Arrival, admission: Admission) -> _Case:
    case = _Case(arrival=arrival, reason=arrival.problem)
    try:
        if not case.reason:
            case.proposal = read_proposal(read_alert(arrival.raw))
            check_admission(case.proposal, admission)
            if arrival.is_from_us and case.proposal.alert_id:
                case.reason = OURS
    except AlertRefused as error:
        case.reason = str(error)
    except Exception as error:  # what nobody foresaw must not hold up the others
        log.exception("alert_not_judged", file=arrival.file_name)
        case.reason = f"could not be judged: {type(error).__name__}"
    return case


def _name_assets(cases: Sequence[_Case]) -> None:
    """Find the instrument that each proposal means at its moment."""
    names = {case.proposal.asset for case in cases if case.proposal and not case.reason}
    called: dict[str, list[Instrument]] = defaultdict(list)
    for each in instruments_named(names=names) if names else ():
        for name in known_names(each):
            called[name].append(each)
    for case in cases:
        proposal = case.proposal
        if proposal is None or case.reason:
            continue
        candidates = called.get(proposal.asset, [])
        found = [each for each in candidates if is_named(each, proposal.asset, at=proposal.at)]
        if len(found) != 1:
            meant = ", ".join(each.coin_id for each in found) or "no instrument of that time"
            case.reason = f"asset {shown(proposal.asset)} means {meant}"[:300]
            continue
        (instrument,) = found
        case.signal = _signal(proposal, instrument)
        case.key = alert_key(proposal, instrument.coin_id)
        if proposal.direction and not (instrument.is_enabled and instrument.is_strategy_enabled):
            case.reason = f"{instrument.coin_id} is not offered to strategies"


def _settle(cases: Sequence[_Case]) -> list[Judgement]:
    """Find what is known, write what is not. Runs under the lock."""
    keys = {case.key for case in cases if case.key} | {_refusal_key(case) for case in cases}
    known = outside_alerts(keys=keys)
    places = {_place(case.signal) for case in cases if case.signal and not case.reason}
    taken, ours = places_taken(places=places), consensus_stands(places=places)
    rows: list[OutsideAlert] = []
    judged: list[Judgement] = []
    for case in cases:
        row = _known_row(case, known)
        if row is None and not case.reason:
            case.reason = _contradiction(case, known, taken, ours)
        if row is None and case.reason:
            row = known.get(_refusal_key(case))
        is_new = row is None
        if row is None:
            row = _row(case)
            rows.append(row)
            known[row.key] = row
            if row.signal is not None:
                taken.add(_place(row.signal))
        judged.append(Judgement(alert=row, is_new=is_new))
    _write(rows)
    return judged


def _known_row(case: _Case, known: Mapping[str, OutsideAlert]) -> OutsideAlert | None:
    """The alert that was accepted, if this is the same one again."""
    row, signal = known.get(case.key), case.signal
    if row is None or row.signal is None or signal is None:
        return None
    return row if _facts(row.signal) == _facts(signal) else None


def _contradiction(
    case: _Case,
    known: Mapping[str, OutsideAlert],
    taken: Container[Place],
    ours: Container[Stand],
) -> str:
    """Why a sound proposal is refused beside what was said before; empty when it is taken."""
    signal = case.signal
    if signal is None or case.proposal is None:
        return ""
    if case.key in known:
        return "taken before, with other values"
    if case.proposal.alert_id and (*_place(signal), *_stance(signal)) in ours:
        return OURS
    if _place(signal) in taken:
        return f"outside has spoken of {signal.instrument.coin_id} at this moment already"
    return ""


def _write(rows: Sequence[OutsideAlert]) -> None:
    """Write alerts with their signals, and tell of the signals after the commit."""
    signals = sorted(
        (row.signal for row in rows if row.signal is not None),
        key=lambda signal: (signal.at, signal.instrument_id),
    )
    Signal.objects.bulk_create(signals)
    OutsideAlert.objects.bulk_create(rows)
    if not signals:
        return
    open_outcomes(signals=signals)
    newest = newest_outside(since=signals[0].at)
    overtaken = {each.pk for each in signals if each.at < newest[each.instrument_id]}
    context = {"vix_level": None, "correlation_btc_vix": None}
    told = partial(
        events.signals_ingested.send_robust,
        sender=Signal,
        signal_ids=[signal.pk for signal in signals],
    )
    transaction.on_commit(told, robust=True)
    transaction.on_commit(
        partial(publication.publish, signals, context, overtaken=overtaken), robust=True
    )


def _row(case: _Case) -> OutsideAlert:
    arrival, proposal = case.arrival, case.proposal
    signal = None if case.reason else case.signal
    if signal is not None:
        signal.reasons = {"alert": case.key, "origin": str(arrival.origin)}
    return OutsideAlert(
        key=_refusal_key(case) if case.reason else case.key,
        verdict=AlertVerdict.REFUSED if case.reason else AlertVerdict.ACCEPTED,
        reason=case.reason[:300],
        asset=proposal.asset if proposal else "",
        signal_type=proposal.signal_type if proposal else "",
        at=proposal.at if proposal else None,
        payload=_told(arrival.raw, whole=not case.reason),
        signal=signal,
        origin=arrival.origin,
        folder=arrival.folder,
        file_name=arrival.file_name,
        received_by=arrival.received_by,
        received_at=clock.wall_now(),
    )


def _signal(proposal: Proposal, instrument: Instrument) -> Signal:
    """The signal of a proposal: its bar is that which would end when it was said."""
    step = duration(proposal.timeframe)
    return Signal(
        strategy=OUTSIDE,
        instrument=instrument,
        timeframe=proposal.timeframe,
        bar_open_time=proposal.at - step,
        at=proposal.at,
        direction=proposal.direction,
        confidence=proposal.confidence,
        price=proposal.price,
        stop_loss=proposal.stop_loss,
        take_profit=proposal.take_profit,
        position_size=proposal.position_size,
        expires_at=proposal.at + step,
        run=None,
        created_at=clock.wall_now(),
    )


def _place(signal: Signal) -> Place:
    return signal.instrument_id, signal.timeframe, signal.bar_open_time


def _stance(signal: Signal) -> tuple[int, float, float]:
    return signal.direction, signal.price, signal.confidence


def _facts(signal: Signal) -> tuple[object, ...]:
    levels = (signal.stop_loss, signal.take_profit, signal.position_size)
    return (*_place(signal), *_stance(signal), *levels)


def _refusal_key(case: _Case) -> str:
    """Known by its bytes; what has none that could be read, by where it lies and why."""
    arrival = case.arrival
    content = arrival.raw
    if arrival.problem:
        place = f"{arrival.folder}/{arrival.file_name}\n{arrival.problem}"
        content = place.encode("utf-8", "backslashreplace")
    return f"refused:{hashlib.sha256(content).hexdigest()}"


def _told(raw: bytes, *, whole: bool) -> str:
    """The bytes as text that every database takes."""
    text = raw if whole else raw[:REFUSED_SAMPLE]
    return text.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")


def _wait_for_turn() -> None:
    """Be the only one who ingests until the transaction ends.

    PostgreSQL frees the lock after the commit is visible. SQLite needs nothing: the transaction
    began IMMEDIATE, as the only writer.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [INGEST_LOCK])
