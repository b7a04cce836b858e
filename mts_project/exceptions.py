"""The one shape of an HTTP error: {"error": {"code", "message", "fields"}}."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as ModelValidationError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler


def one_shape_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn every expected exception into the one error shape; the rest stays a 500."""
    if isinstance(error, ModelValidationError):
        fields = error.message_dict if hasattr(error, "error_dict") else {}
        error = exceptions.ValidationError(fields or error.messages)
    elif isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    response = exception_handler(error, context)
    if response is None or not isinstance(error, exceptions.APIException):
        return response
    if isinstance(error, exceptions.ValidationError):
        fields = error.detail if isinstance(error.detail, dict) else {}
        message = "the request is not valid" if fields else " ".join(map(str, error.detail))
        code = "invalid"
    else:
        fields, message, code = {}, str(error.detail), _code(error)
    response.data = {"error": {"code": code, "message": message, "fields": fields}}
    return response


def _code(error: exceptions.APIException) -> str:
    code = error.get_codes()
    return code if isinstance(code, str) else error.default_code
