"""HTTP: funding settlements."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers

from collectors.access import NewestFirstPagination
from collectors.models import FundingRate, Instrument
from collectors.sources import FUNDING_VENUES


class FundingSerializer(serializers.ModelSerializer[FundingRate]):
    """One settlement. `rate` is what longs paid to shorts, a share of the notional; the mark
    price is null where the exchange does not say it. `is_confirmed` is false while the exchange's
    history has not been asked about what its stream showed."""

    instrument = serializers.SlugRelatedField(slug_field="coin_id", read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = FundingRate
        fields = [
            "instrument", "exchange", "symbol", "funding_time", "rate", "mark_price",
            "interval_hours", "is_confirmed",
        ]  # fmt: skip


class FundingQuery(serializers.Serializer[Any]):
    """Which settlements: start <= funding_time < end."""

    instrument = serializers.SlugRelatedField(
        slug_field="coin_id", queryset=Instrument.objects.all(), required=False
    )
    exchange = serializers.ChoiceField(choices=FUNDING_VENUES, required=False)
    start = serializers.DateTimeField(required=False)
    end = serializers.DateTimeField(required=False)


class NewestSettlementFirst(NewestFirstPagination):
    """Cursor pages by funding time; those of one moment in a fixed order."""

    ordering = ("-funding_time", "-id")  # type: ignore[assignment]


@extend_schema(parameters=[FundingQuery])
class FundingList(generics.ListAPIView[FundingRate]):
    """Funding settlements, newest first."""

    serializer_class = FundingSerializer
    pagination_class = NewestSettlementFirst
    queryset = FundingRate.objects.none()

    def get_queryset(self) -> QuerySet[FundingRate]:
        query = FundingQuery(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        bounds = {"start": "funding_time__gte", "end": "funding_time__lt"}
        wanted = {bounds.get(name, name): value for name, value in query.validated_data.items()}
        return FundingRate.objects.filter(**wanted).select_related("instrument")
