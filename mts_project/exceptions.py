"""The one shape of an HTTP error: {"error": {"code", "message", "fields"}}."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as ModelValidationError
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler


def one_shape_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn every expected exception into the one error shape; the rest stays a 500."""
    fields: Any
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
        fields, message, code = {}, _message(error.detail), _code(error)
    response.data = {"error": {"code": code, "message": message, "fields": fields}}
    return response


def _message(detail: Any) -> str:
    """The sentence; whoever judges tokens says it with details beside it."""
    return str(detail.get("detail", detail)) if isinstance(detail, dict) else str(detail)


def _code(error: exceptions.APIException) -> str:
    code = error.get_codes()
    return code if isinstance(code, str) else error.default_code


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's 400 (a refused host, a malformed upload), as JSON below `/api/`."""
    if _is_api(request):
        return _error(400, "bad_request", "the request is not valid")
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's 404, as JSON below `/api/`."""
    if _is_api(request):
        return _error(404, "not_found", f"there is nothing at {request.path}")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Django's 500, as JSON below `/api/`; the traceback is in the log."""
    if _is_api(request):
        return _error(500, "server_error", "the server failed; its log says why")
    return defaults.server_error(request)


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def _error(status: int, code: str, message: str) -> JsonResponse:
    body = {"error": {"code": code, "message": message, "fields": {}}}
    return JsonResponse(body, status=status)
