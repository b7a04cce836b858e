"""A user's API keys over HTTP: made, listed, revoked; by a login, never by a key."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.access import RolePermission
from collectors.keys import create_api_key, revoke_api_key
from collectors.models import ApiKey, KeyScope
from collectors.once import once
from collectors.strict import StrictSerializer


class NoKey(RolePermission):
    """Whoever has stolen a key must not make another."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return not isinstance(request.auth, ApiKey) and super().has_permission(request, view)


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """A key, of which nobody can read more than how it begins."""

    class Meta:
        model = ApiKey
        fields = [
            "id", "name", "scope", "prefix", "created_at", "expires_at", "revoked_at",
            "last_used_at",
        ]  # fmt: skip


class MadeKeySerializer(ApiKeySerializer):
    """The answer to who made it: `key` is to be sent as `Authorization: Api-Key ...`."""

    key = serializers.CharField()

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]


class ApiKeysView(generics.ListAPIView[ApiKey]):
    """One's own keys, newest first."""

    write_role = "viewer"
    permission_classes = [NoKey]
    serializer_class = ApiKeySerializer
    filter_backends = ()

    class NewKeySerializer(StrictSerializer):
        """Which program it is for, and what it may do."""

        name = serializers.CharField(max_length=64)
        scope = serializers.ChoiceField(choices=KeyScope.choices)
        expires_at = serializers.DateTimeField(required=False)

    def get_queryset(self) -> QuerySet[ApiKey]:
        """Those of who asks."""
        if getattr(self, "swagger_fake_view", False):
            return ApiKey.objects.none()
        return ApiKey.objects.filter(user__username=self.request.user.get_username())

    @extend_schema(request=NewKeySerializer, responses={201: MadeKeySerializer})
    def post(self, request: Request) -> Response:
        """Make a key; it is told this once. Its name makes it one: there is no second of it."""
        asked = self.NewKeySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        key, text = create_api_key(user=request.user, **asked.validated_data)
        return Response({**ApiKeySerializer(key).data, "key": text}, status=201)


class ApiKeyView(APIView):
    """One of one's own keys."""

    write_role = "viewer"
    permission_classes = [NoKey]

    @once
    @extend_schema(request=None, responses=ApiKeySerializer)
    def delete(self, request: Request, pk: int) -> Response:
        """Revoke it; revoking it again changes nothing."""
        key = get_object_or_404(ApiKey, pk=pk, user_id=request.user.pk)
        revoke_api_key(key_id=key.pk)
        key.refresh_from_db()
        data: dict[str, Any] = ApiKeySerializer(key).data
        return Response(data)


urlpatterns = [
    path("api-keys/", ApiKeysView.as_view()),
    path("api-keys/<int:pk>/", ApiKeyView.as_view()),
]
