"""HTTP: backfills, asked for, followed, cancelled."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors import services, tasks
from collectors.marketdata import TIMEFRAMES
from collectors.models import Backfill, Instrument
from collectors.once import KEY_PARAMETER, answer_once, once


class BackfillSerializer(serializers.ModelSerializer[Backfill]):
    """A backfill; everything before `position` has been asked for."""

    instrument = serializers.CharField(source="instrument.coin_id")
    requested_by = serializers.CharField(source="requested_by.username", default=None)
    progress_pct = serializers.FloatField()

    class Meta:
        model = Backfill
        fields = [
            "id", "instrument", "timeframe", "start", "end", "state", "position", "progress_pct",
            "stored", "requests", "error", "requested_by", "created_at", "finished_at",
        ]  # fmt: skip


class BackfillList(generics.ListAPIView[Backfill]):
    """The backfills, newest first."""

    class BackfillCreateSerializer(serializers.Serializer[Any]):
        """What to fetch: the bars that open in [start, end), cut to what is closed and to what any
        source serves. Without `start` from the begin of the default history, without `end` to now.
        """

        instrument = serializers.SlugRelatedField(
            slug_field="coin_id", queryset=Instrument.objects.all()
        )
        timeframe = serializers.ChoiceField(choices=list(TIMEFRAMES), default="1h")
        start = serializers.DateTimeField(required=False)
        end = serializers.DateTimeField(required=False)

    queryset = Backfill.objects.select_related("instrument", "requested_by")
    serializer_class = BackfillSerializer
    filterset_fields = ["state", "timeframe"]

    @extend_schema(
        request=BackfillCreateSerializer,
        responses={202: BackfillSerializer},
        parameters=[KEY_PARAMETER],
    )
    def post(self, request: Request) -> Response:
        """Queue a backfill; `Location` is where to follow it."""
        asked = self.BackfillCreateSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return answer_once(request, partial(self._queue, request, asked.validated_data))

    def _queue(self, request: Request, values: dict[str, Any]) -> Response:
        with transaction.atomic():
            try:
                backfill = services.request_backfill(
                    **values,
                    requested_by=request.user if isinstance(request.user, User) else None,
                )
            except services.BackfillRefused as error:
                raise serializers.ValidationError({error.field: [str(error)]}) from None
            # A broker that is down loses only the hint: the sweep finds the row.
            transaction.on_commit(partial(tasks.sweep_backfills.delay), robust=True)
        address = request.build_absolute_uri(f"{request.path}{backfill.pk}/")
        return Response(
            {**BackfillSerializer(backfill).data, "url": address},
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": address},
        )


class BackfillDetail(generics.RetrieveAPIView[Backfill]):
    """One backfill."""

    queryset = Backfill.objects.select_related("instrument", "requested_by")
    serializer_class = BackfillSerializer


class BackfillCancel(APIView):
    """Stops a backfill that is not finished."""

    @once
    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, pk: int) -> Response:
        """Cancel it; cancelling what is finished changes nothing and says so."""
        get_object_or_404(Backfill, pk=pk)
        cancelled = services.cancel_backfill(backfill_id=pk)
        state = Backfill.objects.values_list("state", flat=True).get(pk=pk)
        return Response({"id": pk, "cancelled": cancelled, "state": state})
