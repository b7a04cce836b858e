"""Writes over HTTP that are done once however often they are asked for: the `Idempotency-Key`.

The key's row is written in the transaction of the write itself. So a process that dies between the
commit and its answer leaves the answer behind, one that dies before leaves nothing, and of two
requests at once the second waits for the first one's end. An answer that says why nothing was done
is kept as well where the view returned it; what a view raises undoes everything, the key included,
and the key may be used for the mended request.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial, wraps
from typing import Any

from django.db import IntegrityError, transaction
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from collectors import clock
from collectors.models import AnsweredWrite

HEADER = "Idempotency-Key"
# What the schema says of it at every write that heeds it.
KEY_PARAMETER = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description="the same key with the same request does it once and gives the same answer",
)
KEY_LENGTH = 120
KEPT_FOR = timedelta(days=30)


class KeyReused(APIException):
    """The key came before, with another request."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "the idempotency key belongs to another request"
    default_code = "conflict"


def once(method: Callable[..., Response]) -> Callable[..., Response]:
    """A view's writing method, done once for each key: all of it as the work of `answer_once`.

    For methods that do nothing slow; the schema tells of the key.
    """

    @wraps(method)
    def asked(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        return answer_once(request, partial(method, view, request, *args, **kwargs))

    described: Callable[..., Response] = extend_schema(parameters=[KEY_PARAMETER])(asked)
    return described


def answer_once(request: Request, work: Callable[[], Response]) -> Response:
    """The answer of `work`, or the one that the user's same request with the same key got before.

    `work` runs in a transaction when there is a key: it reads nothing slow. A repeated answer has
    the header `Idempotent-Replay`. Raises KeyReused (409) for a key of another request, and
    ValidationError for one that is no key.
    """
    row = _asked(request)
    if row is None:
        return work()
    earlier = _earlier_answer(row)
    if earlier is not None:
        return earlier
    try:
        with transaction.atomic():
            _claim(row)
            response = work()
            _keep(row, response)
            return response
    except _Claimed:
        earlier = _earlier_answer(row)
        if earlier is None:
            raise KeyReused("the same request failed at this moment: try again") from None
        return earlier


def answer_again(request: Request, work: Callable[[], Response]) -> Response:
    """As `answer_once` for work that commits by itself and may be done twice: only what is asked
    after the answer was given gets that answer again. Raises as `answer_once` does."""
    row = _asked(request)
    earlier = None if row is None else _earlier_answer(row)
    if earlier is not None:
        return earlier
    response = work()
    if row is not None:
        with suppress(_Claimed), transaction.atomic():
            _claim(row)
            _keep(row, response)
    return response


def forget_old_answers(*, kept_for: timedelta = KEPT_FOR) -> int:
    """Delete the answers older than `kept_for` (wall time); returns how many."""
    horizon = clock.wall_now() - kept_for
    deleted, _ = AnsweredWrite.objects.filter(at__lt=horizon).delete()
    return deleted


class _Claimed(Exception):
    """Somebody else was first with the key."""


def _asked(request: Request) -> AnsweredWrite | None:
    """The row of a request, not written yet; None without a key or a user. Raises
    ValidationError."""
    key = request.headers.get(HEADER, "")
    user_id = request.user.pk
    if not key or user_id is None:
        return None
    if len(key) > KEY_LENGTH or not key.isprintable():
        raise ValidationError({HEADER: [f"at most {KEY_LENGTH} printable characters"]})
    asked = _request_hash(request)
    return AnsweredWrite(user_id=user_id, key=key, request_hash=asked, at=clock.wall_now())


def _claim(row: AnsweredWrite) -> None:
    """Write the key's row; waits for whoever writes the same one. Raises _Claimed."""
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        raise _Claimed from None


def _keep(row: AnsweredWrite, response: Response) -> None:
    row.status = response.status_code
    row.body = json.loads(JSONRenderer().render(response.data))
    row.save(update_fields=["status", "body"])


def _earlier_answer(asked: AnsweredWrite) -> Response | None:
    row = AnsweredWrite.objects.filter(user_id=asked.user_id, key=asked.key).first()
    if row is None:
        return None
    if row.request_hash != asked.request_hash:
        raise KeyReused
    headers = {"Idempotent-Replay": "true"}
    # Where what was queued is to be followed is said in the body as well.
    if isinstance(row.body, dict) and "url" in row.body:
        headers["Location"] = row.body["url"]
    return Response(row.body, status=row.status, headers=headers)


def _request_hash(request: Request) -> str:
    body: Any = request.data
    said = json.dumps([request.method, request.path, body], sort_keys=True, default=str)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
