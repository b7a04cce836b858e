"""Who is behind a WebSocket: a ticket, a bearer token or the session cookie, and for how long.

A ticket is for clients that cannot send headers and share no cookie: it is a random name in Redis
for a login that exists, gone after 30 seconds or its first use.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.http import HttpRequest
from django.http.request import validate_host
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import AuthenticationFailed, InvalidToken

from collectors import clock
from collectors.access import rank_by_key, role_rank
from collectors.keylogin import key_of_header
from collectors.keys import find_api_key, working_keys
from collectors.models import ApiKey

TICKET_LIFETIME_S = 30
REDIS_TIMEOUT_S = 5


@dataclass(frozen=True, kw_only=True)
class Login:
    """A user's login as it was at the handshake.

    It ends at `expires_at` (wall time, seconds since 1970) if that is set, and with the session
    `session_key`, or the key `api_key_id`, if that is set.
    """

    user_id: int
    expires_at: float | None = None
    session_key: str | None = None
    api_key_id: int | None = None


def query_parameter(scope: Mapping[str, Any], name: str) -> str | None:
    """The first value of a parameter in the address of a handshake."""
    values = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get(name)
    return values[0] if values else None


def is_own_origin(scope: Mapping[str, Any]) -> bool:
    """Whether the page that opens the socket is ours. Programs send no origin and may pass."""
    origin = _header(scope, b"origin")
    if origin is None:
        return True
    host = _header(scope, b"host")
    try:
        address = urlsplit(origin)
        name = address.hostname
    except ValueError:
        return False
    # Cookies know no ports, so another port of this host is foreign too.
    if name is None or host is None or address.netloc.lower() != host.lower():
        return False
    return validate_host(f"[{name}]" if ":" in name else name, settings.ALLOWED_HOSTS)


def identify(scope: Mapping[str, Any]) -> Login | None:
    """The login that a handshake carries, None without a valid one. Uses up its ticket.

    Whoever sends a ticket or a token is judged by it alone, whatever cookie comes along.
    """
    ticket = query_parameter(scope, "ticket")
    if ticket is not None:
        return redeem_ticket(ticket)
    authorization = _header(scope, b"authorization")
    if authorization is not None:
        return _login_of_token(authorization)
    return _login_of_session(scope)


def issue_ticket(login: Login) -> str:
    """A name for this login that `redeem_ticket` takes once within 30 seconds (wall time)."""
    ticket = secrets.token_urlsafe(32)
    _client().set(_ticket_key(ticket), json.dumps(asdict(login)), ex=TICKET_LIFETIME_S)
    return ticket


def redeem_ticket(ticket: str) -> Login | None:
    """The login behind a ticket, which is then gone; None for an unknown one."""
    stored: Any = _client().getdel(_ticket_key(ticket))
    return None if stored is None else Login(**json.loads(stored))


def login_of_request(request: Any) -> Login:
    """The login of an authenticated HTTP request, with the end that its token or session has."""
    token = getattr(request, "auth", None)
    if isinstance(token, ApiKey):
        return _login_of_key(token)
    if token is not None:
        return Login(user_id=request.user.pk, expires_at=float(token["exp"]))
    return Login(user_id=request.user.pk, session_key=request.session.session_key)


def is_expired(login: Login) -> bool:
    """Whether the login's own time is over (no look at the database)."""
    return login.expires_at is not None and clock.wall_now().timestamp() >= login.expires_at


def role_of(login: Login) -> int:
    """The rank that the login has now (`collectors.access`), -1 when it has ended."""
    user = get_user_model().objects.filter(pk=login.user_id, is_active=True).first()
    if user is None or is_expired(login):
        return -1
    if login.session_key is not None:
        owner = _user_of_session(login.session_key)
        if owner is None or owner.pk != user.pk:
            return -1
    rank = role_rank(user)
    if login.api_key_id is not None:
        key = ApiKey.objects.filter(working_keys(), pk=login.api_key_id).first()
        return -1 if key is None else rank_by_key(key, rank)
    return rank


def _login_of_key(key: ApiKey) -> Login:
    ends = None if key.expires_at is None else key.expires_at.timestamp()
    return Login(user_id=key.user_id, expires_at=ends, api_key_id=key.pk)


def _login_of_token(authorization: str) -> Login | None:
    text_of_key = key_of_header(authorization.encode("latin-1"))
    if text_of_key is not None:
        key = find_api_key(text=text_of_key)
        return None if key is None else _login_of_key(key)
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    backend = JWTAuthentication()
    try:
        token = backend.get_validated_token(text.strip().encode())
        user = backend.get_user(token)
    except (InvalidToken, AuthenticationFailed):
        return None
    return Login(user_id=user.pk, expires_at=float(token["exp"]))


def _login_of_session(scope: Mapping[str, Any]) -> Login | None:
    try:
        cookie = SimpleCookie(_header(scope, b"cookie") or "")
    except CookieError:
        return None
    morsel = cookie.get(settings.SESSION_COOKIE_NAME)
    user = None if morsel is None else _user_of_session(morsel.value)
    if morsel is None or user is None:
        return None
    return Login(user_id=user.pk, session_key=morsel.value)


def _user_of_session(session_key: str) -> Any | None:
    # Django's own check, which also compares the password's hash: a changed password logs out.
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(request)
    return user if user.is_authenticated else None


def _header(scope: Mapping[str, Any], name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


def _ticket_key(ticket: str) -> str:
    return f"ws_ticket:{ticket}"


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT_S, decode_responses=True
    )
