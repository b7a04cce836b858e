"""`Authorization: Api-Key ...`: how a program logs in with a key."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from collectors.keys import find_api_key
from collectors.models import ApiKey

SCHEME = "Api-Key"


def key_of_header(value: bytes) -> str | None:
    """The key in the value of an `Authorization` header; None for another kind of login."""
    scheme, _, text = value.partition(b" ")
    return text.strip().decode("latin-1") if scheme.lower() == SCHEME.lower().encode() else None


class ApiKeyAuthentication(BaseAuthentication):
    """The key's owner as `request.user`, the key as `request.auth`."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey] | None:
        """None without a key. Raises AuthenticationFailed for one that does not work."""
        text = key_of_header(get_authorization_header(request))
        if text is None:
            return None
        key = find_api_key(text=text)
        if key is None:
            raise AuthenticationFailed("this API key does not work", code="api_key_not_valid")
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        """What a refusal asks for."""
        return SCHEME


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The schema's word of it."""

    target_class = "collectors.keylogin.ApiKeyAuthentication"
    name = "apiKeyAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """A header with a scheme of its own."""
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": f"`{SCHEME}` and a key of `api-keys/`",
        }
