"""Whether this installation works: one status for anybody, its components for who may know."""

from __future__ import annotations

import hmac
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTAuthentication

from collectors.access import rank_of_request
from collectors.keylogin import ApiKeyAuthentication
from mts_project import vitals

MINUTES_COUNTED = 60
MONITOR = "monitor"
STARTED = time.monotonic()
UNHEALTHY_STATUS = 503

Scope = dict[str, Any]
AsgiApplication = Callable[[Scope, Any, Any], Awaitable[None]]

_requests_per_minute: Counter[int] = Counter()


class MonitorToken(BaseAuthentication):
    """`Authorization: Bearer METRICS_TOKEN`; any other bearer is left to the next class."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, str] | None:
        token: str = settings.ENV.metrics_token
        given = request.headers.get("Authorization", "")
        if not token or not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return None
        return AnonymousUser(), MONITOR

    def authenticate_header(self, request: Request) -> str:
        """What a refused caller is asked for: makes it a 401."""
        return "Bearer"


class MonitorTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema describes the token of a monitor."""

    target_class = MonitorToken
    name = "monitorToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """A bearer token, as METRICS_TOKEN sets it."""
        return {"type": "http", "scheme": "bearer"}


class HealthView(APIView):
    """`{"status", "healthy"}`, and the components and figures for a login or METRICS_TOKEN.

    503 when unhealthy. Degraded answers 200: it works, and somebody should look.
    """

    authentication_classes = [
        MonitorToken, JWTAuthentication, ApiKeyAuthentication, SessionAuthentication,
    ]  # fmt: skip
    permission_classes = [AllowAny]

    @extend_schema(responses=dict)
    def get(self, request: Request) -> Response:
        components = vitals.recent_components()
        status = vitals.overall_status(components)
        body: dict[str, Any] = {"status": status, "healthy": status != vitals.UNHEALTHY}
        if request.auth == MONITOR or rank_of_request(request) > 0:
            body["components"] = components
            body["performance"] = performance(components)
        return Response(body, status=UNHEALTHY_STATUS if status == vitals.UNHEALTHY else 200)


def live(request: HttpRequest) -> JsonResponse:
    """The process answers; nothing else is looked at."""
    return JsonResponse({"status": "alive"})


def ready(request: HttpRequest) -> JsonResponse:
    """Whether requests can be served: the database and Redis answer."""
    is_ready = all(component["status"] == vitals.HEALTHY for component in vitals.stores().values())
    return JsonResponse(
        {"status": "ready" if is_ready else "not ready"},
        status=200 if is_ready else UNHEALTHY_STATUS,
    )


def performance(components: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Figures of the last hour (wall time), of this process and of the database."""
    try:
        signals = vitals.signals_last_hour()
    except DatabaseError:
        signals = None
    _forget_old_requests()
    return {
        "signals_generated_last_hour": signals,
        "api_requests_last_hour": sum(_requests_per_minute.values()),
        "database_health": components["database"]["status"],
        "memory_mb": _memory_mb(),
        "uptime_s": round(time.monotonic() - STARTED, 1),
    }


def counting_api_requests(application: AsgiApplication) -> AsgiApplication:
    """The same ASGI application, counting what is asked of `/api/` in this process."""

    async def counting(scope: Scope, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/api/"):
            _requests_per_minute[_minute_now()] += 1
            _forget_old_requests()
        await application(scope, receive, send)

    return counting


def _forget_old_requests() -> None:
    horizon = _minute_now() - MINUTES_COUNTED
    for minute in [minute for minute in _requests_per_minute if minute <= horizon]:
        del _requests_per_minute[minute]


def _minute_now() -> int:
    return int(time.monotonic() // 60)


def _memory_mb() -> float:
    """What this process holds in memory now; where /proc is missing, its peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text().split()[1])
        return round(pages * resource.getpagesize() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
