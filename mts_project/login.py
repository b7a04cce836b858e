"""Logging in over HTTP: tokens and WebSocket tickets; and the roles that logins have."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from collectors.access import ROLES
from realtime.logins import TICKET_LIFETIME_S, issue_ticket, login_of_request


class LoginThrottle(AnonRateThrottle):
    """Slows down whoever guesses passwords."""

    rate = "30/min"


class TokenView(TokenObtainPairView):
    """Username and password for an access and a refresh token."""

    throttle_classes = [LoginThrottle]


class WebSocketTicketView(APIView):
    """A ticket for one WebSocket handshake, `?ticket=`, within 30 seconds."""

    write_role = "viewer"

    class TicketSerializer(serializers.Serializer[dict[str, object]]):
        ticket = serializers.CharField()
        expires_in = serializers.IntegerField(help_text="seconds")

    @extend_schema(request=None, responses={201: TicketSerializer})
    def post(self, request: Request) -> Response:
        ticket = issue_ticket(login_of_request(request))
        return Response({"ticket": ticket, "expires_in": TICKET_LIFETIME_S}, status=201)


urlpatterns = [
    path("token/", TokenView.as_view()),
    path("token/refresh/", TokenRefreshView.as_view()),
    path("ws-ticket/", WebSocketTicketView.as_view()),
]


def seed_roles() -> None:
    """Make the group of each role that is missing."""
    for name in ROLES:
        Group.objects.get_or_create(name=name)


@transaction.atomic
def ensure_login(
    *, username: str, password: str, role: str = "viewer", is_superuser: bool = False
) -> None:
    """Make the user, or give the one that exists this password, role and rank.

    Raises ValueError for an unknown role.
    """
    if role not in ROLES:
        raise ValueError(f"{role!r} is not one of {', '.join(ROLES)}")
    seed_roles()
    user, _ = get_user_model().objects.get_or_create(username=username)
    user.is_active = True
    user.is_staff = user.is_superuser = is_superuser
    user.set_password(password)
    user.save()
    user.groups.set(Group.objects.filter(name=role))
