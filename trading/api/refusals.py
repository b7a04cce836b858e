"""HTTP: requests that are no order and no question, each refused with a row that says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request

from trading import services


@contextmanager
def kept_refusals(request: Request, *, account_id: int | None = None) -> Iterator[None]:
    """Keep why the request was refused in here: a body that cannot be read, values that are none.

    Raises what was raised.
    """
    try:
        yield
    except APIException as error:
        if error.status_code < 500:
            services.keep_refused_request(
                address=request.path,
                by=request.user.get_username(),
                reason=_told(error),
                asked=_said(request),
                account_id=account_id,
            )
        raise


def read_or_refuse(
    request: Request,
    form: type[serializers.Serializer[Any]],
    *,
    record: Callable[[Any, Any], object | None],
    account_id: int | None = None,
) -> serializers.Serializer[Any]:
    """The valid form of a request. What is none is refused with a row: the one that `record` makes
    of the body and its faults, or a refused request. Raises APIException."""
    with kept_refusals(request, account_id=account_id):
        asked = form(data=request.data)
    if asked.is_valid() or record(request.data, asked.errors) is not None:
        asked.is_valid(raise_exception=True)
        return asked
    with kept_refusals(request, account_id=account_id):
        raise ValidationError(asked.errors)


def _said(request: Request) -> Any:
    """The body; empty where it could not be read, or is of a kind that nobody reads."""
    try:
        return request.data
    except APIException:
        return None


def _told(error: APIException) -> str:
    is_plain = not isinstance(error, ValidationError)
    return str(error.detail) if is_plain else json.dumps(error.detail, ensure_ascii=False)
