"""Who may do what over HTTP: the roles, and the cursor pagination shared by every list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from collectors.models.keys import ApiKey

if TYPE_CHECKING:
    from rest_framework.views import APIView

ROLES = ("viewer", "operator", "trader")
INGEST_PERMISSION = "signals.add_outsidealert"


def role_rank(user: object) -> int:
    """The rank of a user's strongest role: 0 none, 1 viewer, 2 operator, 3 trader.

    Roles are Django groups and cumulative; a superuser holds all of them.
    """
    if not getattr(user, "is_authenticated", False):
        return 0
    if getattr(user, "is_superuser", False):
        return len(ROLES)
    names = set(user.groups.values_list("name", flat=True))  # type: ignore[attr-defined]
    return max((rank for rank, name in enumerate(ROLES, start=1) if name in names), default=0)


def may_trade(user: object) -> bool:
    """Whether the user has the strongest role: trader."""
    return role_rank(user) >= len(ROLES)


def may_ingest(user: object) -> bool:
    """Whether the user may tell alerts from outside: by role, or by the permission for just this.

    The permission names the table that they become rows of.
    """
    has_perm = getattr(user, "has_perm", None)
    return may_trade(user) or (has_perm is not None and has_perm(INGEST_PERMISSION))


def rank_by_key(key: ApiKey, rank: int) -> int:
    """Of a user's rank what the key leaves; nothing where it may only tell."""
    return min(rank, ROLES.index(key.scope) + 1 if key.scope in ROLES else 0)


def rank_of_request(request: Request) -> int:
    """The rank of who asks, and no more than that of the key it is asked with."""
    rank = role_rank(request.user)
    return rank_by_key(request.auth, rank) if isinstance(request.auth, ApiKey) else rank


class RolePermission(BasePermission):
    """Reads need viewer; writes need the view's `write_role` (default operator)."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        needed = (
            "viewer" if request.method in SAFE_METHODS else getattr(view, "write_role", "operator")
        )
        return rank_of_request(request) >= ROLES.index(needed) + 1


class NewestFirstPagination(CursorPagination):
    """`{"next", "previous", "results"}` by id, newest first; a view may set `ordering`.

    A cursor that this list cannot have given out is not found.
    """

    ordering = "-id"
    page_size_query_param = "page_size"
    max_page_size = 1000

    def paginate_queryset(
        self,
        queryset: QuerySet[Any] | Sequence[Any],
        request: Request,
        view: APIView | None = None,
    ) -> list[Any] | None:
        """The page's rows. Raises NotFound for a wrong cursor."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, OverflowError, ValidationError):
            # The position in a cursor is text from outside, compared with the ordering's column.
            if self.cursor_query_param not in request.query_params:
                raise
            raise NotFound(self.invalid_cursor_message) from None
