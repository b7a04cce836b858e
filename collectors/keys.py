"""API keys: made, found by what a program sends, revoked.

A key has 256 random bits, so its plain hash tells nothing and can be looked up.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q

from collectors import clock
from collectors.access import ROLES, may_ingest, role_rank
from collectors.models import ApiKey, KeyScope

PREFIX = "mts_"
SHOWN = 12  # characters by which people tell keys apart
USE_NOTED_EVERY = timedelta(minutes=1)


def create_api_key(
    *, user: Any, name: str, scope: str, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A key of the user's and its text, which nobody can read again.

    Raises ValidationError for a name that another key of the user's has, an end that is over, or a
    scope that is more than the user may.
    """
    check_new_key(user=user, scope=scope, expires_at=expires_at)
    text = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        user=user,
        name=name,
        scope=scope,
        prefix=text[:SHOWN],
        digest=_digest(text),
        created_at=clock.wall_now(),
        expires_at=expires_at,
    )
    key.full_clean()
    key.save(force_insert=True)
    return key, text


def check_new_key(*, user: Any, scope: str, expires_at: datetime | None) -> None:
    """Raises ValidationError for a scope beyond what the user may, and for an end that is over."""
    if scope not in KeyScope.values:
        raise ValidationError({"scope": f"one of {', '.join(KeyScope.values)}"})
    if not may_have(user, scope):
        raise ValidationError({"scope": f"{user.get_username()} may not do what {scope} may"})
    if expires_at is not None and expires_at <= clock.wall_now():
        raise ValidationError({"expires_at": "is over"})


def find_api_key(*, text: str) -> ApiKey | None:
    """The key that works now, of a user who is active; None for any other text. Notes its use."""
    now = clock.wall_now()
    working = ApiKey.objects.filter(working_keys(), user__is_active=True)
    key = working.filter(digest=_digest(text)).select_related("user").first()
    if key is not None and (key.last_used_at is None or now - key.last_used_at > USE_NOTED_EVERY):
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key


def working_keys() -> Q:
    """Of keys that are neither revoked nor over."""
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=clock.wall_now()))


def revoke_api_key(*, key_id: int) -> bool:
    """End a key at once; False when it was revoked already."""
    keys = ApiKey.objects.filter(pk=key_id, revoked_at=None)
    return keys.update(revoked_at=clock.wall_now()) == 1


def may_have(user: Any, scope: str) -> bool:
    """Whether the user may do what a key of this scope may."""
    if scope == KeyScope.INGEST:
        return may_ingest(user)
    return role_rank(user) > ROLES.index(scope)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
