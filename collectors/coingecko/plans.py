"""CoinGecko's plans: keyless and Demo share the public host, Pro has a host and a header of its
own (https://docs.coingecko.com/reference/authentication)."""

from __future__ import annotations

from dataclasses import dataclass, field

PUBLIC_URL = "https://api.coingecko.com/api/v3"
PRO_URL = "https://pro-api.coingecko.com/api/v3"
PRO = "pro"
KEY_HEADERS = {"demo": "x-cg-demo-api-key", PRO: "x-cg-pro-api-key"}


@dataclass(frozen=True)
class Door:
    """One way in: where to ask, and the headers to show."""

    base_url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def plan_url(base_url: str, plan: str) -> str:
    """The address that a plan is served at: the pro plan has a host of its own."""
    return PRO_URL if plan == PRO and base_url.rstrip("/") == PUBLIC_URL else base_url


def plan_door(base_url: str, plan: str, api_key: str) -> Door:
    """The way in of a plan."""
    headers = {KEY_HEADERS[plan]: api_key} if plan in KEY_HEADERS and api_key else {}
    return Door(plan_url(base_url, plan), headers)


def free_door(base_url: str) -> Door:
    """The way in without a key, for when Pro refuses."""
    return Door(PUBLIC_URL if base_url.rstrip("/") == PRO_URL else base_url)
