"""HTTP: what strategies said, and what one says now."""

from __future__ import annotations

import time
from typing import Any

import django_filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors import clock
from collectors.marketdata import TIMEFRAMES
from collectors.models import Instrument
from signals import catalog, selectors
from signals.api.filters import MomentFilter
from signals.forecasts import risk_level
from signals.models import Direction, Signal, SignalOutcome
from signals.registry import CONSENSUS, STRATEGIES, UnknownStrategy
from signals.strategy import Forecast, StrategyError

SIGNAL_TYPES = [(direction.label, direction.label) for direction in Direction]


class OutcomeSerializer(serializers.ModelSerializer[SignalOutcome]):
    """What became of a signal, for people to see: returns are fractions in its direction from the
    open of the bar after it, null while they are not known."""

    class Meta:
        model = SignalOutcome
        fields = [
            "state", "detail", "entry_at", "entry_price", "return_1h", "return_4h", "return_1d",
            "return_3d", "return_7d", "ended_at", "exit", "exit_at", "exit_price", "result",
            "is_hit", "best_return", "worst_return", "missing_bars",
        ]  # fmt: skip


class SignalSerializer(serializers.ModelSerializer[Signal]):
    """A signal; prices in quote units, sizes as fractions of equity. A flat one has no outcome."""

    asset = serializers.CharField(source="instrument.coin_id")
    timestamp = serializers.DateTimeField(source="at")
    signal_type = serializers.ChoiceField(choices=SIGNAL_TYPES)
    risk_level = serializers.ChoiceField(choices=["low", "medium", "high"])
    outcome = serializers.SerializerMethodField()

    class Meta:
        model = Signal
        fields = [
            "id", "strategy", "asset", "timeframe", "timestamp", "signal_type", "price",
            "confidence", "position_size", "stop_loss", "take_profit", "risk_level",
            "expires_at", "reasons", "outcome",
        ]  # fmt: skip

    @extend_schema_field(OutcomeSerializer(allow_null=True))
    def get_outcome(self, signal: Signal) -> dict[str, Any] | None:
        """What became of it."""
        outcome: SignalOutcome | None = getattr(signal, "outcome", None)
        return None if outcome is None else OutcomeSerializer(outcome).data


class SignalFilter(django_filters.FilterSet):  # type: ignore[misc]
    """What a list of signals may be narrowed by: since <= timestamp < until."""

    strategy = django_filters.CharFilter()
    asset = django_filters.CharFilter(field_name="instrument__coin_id")
    timeframe = django_filters.CharFilter()
    signal_type = django_filters.ChoiceFilter(choices=SIGNAL_TYPES, method="with_signal_type")
    since = MomentFilter(field_name="at", lookup_expr="gte")
    until = MomentFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = Signal
        fields = ["strategy", "asset", "timeframe", "signal_type", "since", "until"]

    def with_signal_type(self, queryset: Any, _name: str, value: str) -> Any:
        """Narrow by LONG, SHORT or FLAT."""
        return queryset.filter(direction=Direction[value])


class SignalList(generics.ListAPIView[Signal]):
    """All signals, newest first."""

    serializer_class = SignalSerializer
    filterset_class = SignalFilter
    queryset = Signal.objects.select_related("instrument", "outcome")


class CurrentSignalList(generics.ListAPIView[Signal]):
    """The newest signal of each strategy and instrument: the states wanted now."""

    serializer_class = SignalSerializer
    filterset_class = SignalFilter

    def get_queryset(self) -> Any:
        return selectors.latest_signals().select_related("instrument", "outcome")


class GenerateView(APIView):
    """What a strategy (or `consensus`) says now; nothing is stored."""

    class InputSerializer(serializers.Serializer[dict[str, Any]]):
        strategy_name = serializers.CharField()
        symbols = serializers.ListField(
            child=serializers.CharField(), allow_empty=False, max_length=1000
        )
        timeframe = serializers.ChoiceField(choices=list(TIMEFRAMES), required=False)

        def validate_strategy_name(self, value: str) -> str:
            """The consensus, or a strategy that there is."""
            if value != CONSENSUS and value not in catalog.strategy_names():
                raise serializers.ValidationError(f"unknown strategy {value!r}")
            return value

        def validate_symbols(self, values: list[str]) -> list[str]:
            """Coin ids or ticker symbols -> coin ids, each once, in the order given."""
            known = Instrument.objects.values_list("symbol", "coin_id")
            coin_ids = {coin_id: coin_id for _, coin_id in known}
            coin_ids.update((symbol.lower(), coin_id) for symbol, coin_id in known)
            unknown = [value for value in values if value.lower() not in coin_ids]
            if unknown:
                raise serializers.ValidationError(f"unknown instrument: {', '.join(unknown)}")
            return list(dict.fromkeys(coin_ids[value.lower()] for value in values))

    @extend_schema(request=InputSerializer, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """-> {signals, timestamp, metadata}; the timeframe defaults to the strategy's own."""
        form = self.InputSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        name, symbols = form.validated_data["strategy_name"], form.validated_data["symbols"]
        began = time.perf_counter()
        try:
            timeframe = form.validated_data.get("timeframe") or _own_timeframe(name)
            forecasts = selectors.current_forecasts(
                strategy_name=name, coin_ids=symbols, timeframe=timeframe
            )
        except (selectors.NothingEnabled, UnknownStrategy, StrategyError) as error:
            raise serializers.ValidationError({"strategy_name": [str(error)]}) from None
        except selectors.WrongTimeframe as error:
            raise serializers.ValidationError({"timeframe": [str(error)]}) from None
        return Response(
            {
                "signals": [_forecast_json(forecast) for forecast in forecasts],
                "timestamp": clock.now(),
                "metadata": {
                    "strategy_name": name,
                    "timeframe": timeframe,
                    "count": len(forecasts),
                    "duration_ms": round((time.perf_counter() - began) * 1000, 1),
                },
            }
        )


def _own_timeframe(name: str) -> str:
    """A strategy's timeframe; for the consensus that of the first strategy."""
    names = list(STRATEGIES) if name == CONSENSUS else [name]
    return catalog.facts_of(names[0]).timeframe


def _forecast_json(forecast: Forecast) -> dict[str, Any]:
    return {
        "strategy": forecast.strategy,
        "asset": forecast.coin_id,
        "timeframe": forecast.timeframe,
        "timestamp": forecast.closed_at,
        "signal_type": Direction(forecast.direction).label,
        "price": forecast.price,
        "confidence": forecast.confidence,
        "position_size": forecast.position_size,
        "stop_loss": forecast.stop_loss,
        "take_profit": forecast.take_profit,
        "risk_level": risk_level(forecast.price, forecast.stop_loss, forecast.position_size),
        "expires_at": forecast.expires_at,
        "reasons": forecast.reasons,
    }
