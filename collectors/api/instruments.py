"""HTTP: what is collected, and how."""

from __future__ import annotations

from typing import Any

from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from collectors.models import (
    NATIVE_TIMEFRAMES,
    Instrument,
    Listing,
)
from collectors.models.instruments import check_timeframes
from collectors.once import once
from collectors.sources import CANDLE_SOURCES


class ListingSerializer(serializers.ModelSerializer[Listing]):
    """A symbol at an exchange while it is valid."""

    class Meta:
        model = Listing
        fields = [
            "exchange", "symbol", "valid_from", "valid_to", "tick_size", "quantity_step",
            "min_notional",
        ]  # fmt: skip


class InstrumentSerializer(serializers.ModelSerializer[Instrument]):
    """An instrument; how it is collected may be changed, what it is may not."""

    source_chain = serializers.ListField(
        child=serializers.ChoiceField(choices=CANDLE_SOURCES), allow_empty=False
    )
    timeframes = serializers.ListField(
        child=serializers.ChoiceField(choices=NATIVE_TIMEFRAMES), validators=[check_timeframes]
    )
    listings = ListingSerializer(many=True, read_only=True)

    def validate_source_chain(self, chain: list[str]) -> list[str]:
        """Refuse a source that is named twice."""
        if len(set(chain)) != len(chain):
            raise serializers.ValidationError("a source is named twice")
        return chain

    class Meta:
        model = Instrument
        fields = [
            "id", "coin_id", "symbol", "name", "sector", "tier", "source_chain", "is_enabled",
            "is_strategy_enabled", "timeframes", "listings",
        ]  # fmt: skip
        read_only_fields = ["coin_id", "symbol", "name", "sector"]


class InstrumentList(generics.ListAPIView[Instrument]):
    """All instruments with their listings."""

    serializer_class = InstrumentSerializer
    queryset = Instrument.objects.prefetch_related("listings")


class InstrumentDetail(generics.RetrieveUpdateAPIView[Instrument]):
    """One instrument; PATCH changes tier, timeframes, source chain and what it is enabled for."""

    serializer_class = InstrumentSerializer
    queryset = Instrument.objects.prefetch_related("listings")
    http_method_names = ["get", "patch", "head", "options"]

    @once
    def patch(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change what is given."""
        return super().patch(request, *args, **kwargs)
