"""Raising alerts once, and delivering each of them until it arrived or cannot."""

from __future__ import annotations

import os
import socket
import threading
from datetime import timedelta
from functools import partial

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import DateTimeField, ExpressionWrapper, F
from django.db.models.functions import Now

from alerts.events import alerts_raised
from alerts.models import Alert, Delivery, DeliveryState
from alerts.rules import Draft
from alerts.selectors import alert_body, due_deliveries, due_drafts
from alerts.transport import Message, TransportError
from alerts.transports import TRANSPORTS
from collectors import clock

DEFAULT_ROUTING = ("file", "redis")
LEASE = timedelta(seconds=30)
ATTEMPTS = 8
FIRST_PAUSE_S = 2
BATCH = 200

logger = structlog.get_logger(__name__)


def raise_due_alerts() -> int:
    """Raise every alert that recent rows deserve and do not have; returns how many are new.

    Does nothing when the setting ENABLE_ALERTS is off.
    """
    if not settings.ENV.enable_alerts:
        return 0
    return sum(raise_alert(draft=draft) is not None for draft in due_drafts())


def raise_alert(*, draft: Draft) -> Alert | None:
    """Store an alert with its deliveries in one transaction; None when it was raised before."""
    with transaction.atomic():
        alert, is_new = Alert.objects.get_or_create(
            key=draft.key,
            defaults={
                "kind": draft.kind,
                "asset": draft.asset,
                "title": draft.title,
                "payload": draft.payload,
                "at": draft.at,
                "created_at": clock.wall_now(),
            },
        )
        if not is_new:
            return None
        Delivery.objects.bulk_create(
            Delivery(alert=alert, transport=name) for name in DEFAULT_ROUTING
        )
        transaction.on_commit(
            partial(alerts_raised.send_robust, sender=Alert, alert_ids=[alert.pk]), robust=True
        )
    return alert


def deliver_due() -> int:
    """Deliver what waits, one after the other; returns how many arrived.

    Any number may run at once: a delivery belongs to the one whose update took its lease.
    """
    sent = 0
    for delivery_id in list(due_deliveries().values_list("pk", flat=True)[:BATCH]):
        delivery = _take_lease(delivery_id)
        if delivery is not None:
            sent += _deliver(delivery)
    return sent


def retry_delivery(*, delivery_id: int) -> Delivery:
    """Let a failed delivery be tried anew, from its first attempt's patience.

    Raises Delivery.DoesNotExist, and ValidationError when it has not failed.
    """
    changed = Delivery.objects.filter(pk=delivery_id, state=DeliveryState.FAILED).update(
        state=DeliveryState.PENDING, failures=0, next_attempt_at=None, leased_until=None, owner=""
    )
    delivery = Delivery.objects.select_related("alert").get(pk=delivery_id)
    if not changed:
        raise ValidationError(f"the delivery is {delivery.state}: only a failed one is retried")
    return delivery


def _take_lease(delivery_id: int) -> Delivery | None:
    owner = f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"
    until = ExpressionWrapper(Now() + LEASE, output_field=DateTimeField())
    taken = (
        due_deliveries()
        .filter(pk=delivery_id)
        .update(owner=owner[-64:], attempt=F("attempt") + 1, leased_until=until)
    )
    if not taken:
        return None
    return Delivery.objects.select_related("alert").get(pk=delivery_id)


def _deliver(delivery: Delivery) -> bool:
    alert = delivery.alert
    message = Message(
        kind=alert.kind,
        asset=alert.asset,
        at=alert.at,
        body=alert_body(alert),
        attempt=delivery.attempt,
    )
    try:
        transport = TRANSPORTS.get(delivery.transport)
        if transport is None:
            raise TransportError(f"no transport {delivery.transport!r}", permanent=True)
        detail = transport(message)
    except TransportError as error:
        _record_failure(delivery, error)
        return False
    except Exception as error:
        # A transport's fault must not hold up the deliveries after this one.
        logger.exception("a transport failed unexpectedly", transport=delivery.transport)
        _record_failure(delivery, TransportError(repr(error)))
        return False
    return _finish(
        delivery, state=DeliveryState.SENT, detail=detail[:300], sent_at=clock.wall_now()
    )


def _record_failure(delivery: Delivery, error: TransportError) -> None:
    failures = delivery.failures + 1
    is_over = error.permanent or failures >= ATTEMPTS
    pause = timedelta(seconds=FIRST_PAUSE_S * 2 ** (failures - 1))
    logger.warning(
        "alert not delivered",
        alert=delivery.alert_id,
        transport=delivery.transport,
        failures=failures,
        gives_up=is_over,
        error=str(error),
    )
    _finish(
        delivery,
        state=DeliveryState.FAILED if is_over else DeliveryState.PENDING,
        detail=str(error)[:300],
        failures=failures,
        next_attempt_at=None if is_over else clock.wall_now() + pause,
    )


def _finish(delivery: Delivery, **changes: object) -> bool:
    """Write the outcome, unless somebody else has taken the delivery over since."""
    mine = Delivery.objects.filter(
        pk=delivery.pk, attempt=delivery.attempt, state=DeliveryState.PENDING
    )
    return bool(mine.update(owner="", leased_until=None, **changes))
