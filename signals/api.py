"""The HTTP door of signals: current and past signals, forecasts on demand, strategies."""

from __future__ import annotations

import time
from typing import Any

import django_filters
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors import clock
from collectors.marketdata import TIMEFRAMES
from collectors.models import Instrument
from signals import selectors, services
from signals.forecasts import risk_level
from signals.models import Direction, Signal, StrategyConfig
from signals.parameters import ParameterError, parameter_rules
from signals.registry import CONSENSUS, PRESETS, STRATEGIES, UnknownStrategy, strategy_type
from signals.strategy import Forecast

SIGNAL_TYPES = [(direction.label, direction.label) for direction in Direction]


class SignalSerializer(serializers.ModelSerializer[Signal]):
    """A signal; prices in quote units, sizes as fractions of equity."""

    asset = serializers.CharField(source="instrument.coin_id")
    timestamp = serializers.DateTimeField(source="at")
    signal_type = serializers.ChoiceField(choices=SIGNAL_TYPES)
    risk_level = serializers.ChoiceField(choices=["low", "medium", "high"])

    class Meta:
        model = Signal
        fields = [
            "id", "strategy", "asset", "timeframe", "timestamp", "signal_type", "price",
            "confidence", "position_size", "stop_loss", "take_profit", "risk_level",
            "expires_at", "reasons",
        ]  # fmt: skip


class SignalFilter(django_filters.FilterSet):  # type: ignore[misc]
    """What a list of signals may be narrowed by."""

    strategy = django_filters.CharFilter()
    asset = django_filters.CharFilter(field_name="instrument__coin_id")
    timeframe = django_filters.CharFilter()
    signal_type = django_filters.ChoiceFilter(choices=SIGNAL_TYPES, method="with_signal_type")

    class Meta:
        model = Signal
        fields = ["strategy", "asset", "timeframe", "signal_type"]

    def with_signal_type(self, queryset: Any, _name: str, value: str) -> Any:
        """Narrow by LONG, SHORT or FLAT."""
        return queryset.filter(direction=Direction[value])


class SignalList(generics.ListAPIView[Signal]):
    """All signals, newest first."""

    serializer_class = SignalSerializer
    filterset_class = SignalFilter
    queryset = Signal.objects.select_related("instrument")


class CurrentSignalList(generics.ListAPIView[Signal]):
    """The newest signal of each strategy and instrument: the states wanted now."""

    serializer_class = SignalSerializer
    filterset_class = SignalFilter

    def get_queryset(self) -> Any:
        return selectors.latest_signals()


class GenerateView(APIView):
    """What a strategy (or `consensus`) says now; nothing is stored."""

    class InputSerializer(serializers.Serializer[dict[str, Any]]):
        strategy_name = serializers.ChoiceField(choices=[CONSENSUS, *STRATEGIES])
        symbols = serializers.ListField(
            child=serializers.CharField(), allow_empty=False, max_length=1000
        )
        timeframe = serializers.ChoiceField(choices=list(TIMEFRAMES), required=False)

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
        timeframe = form.validated_data.get("timeframe") or _own_timeframe(name)
        began = time.perf_counter()
        try:
            forecasts = selectors.current_forecasts(
                strategy_name=name, coin_ids=symbols, timeframe=timeframe
            )
        except selectors.NothingEnabled as error:
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


class StrategySerializer(serializers.ModelSerializer[StrategyConfig]):
    """A strategy as it is set, with the declaration of its parameters."""

    timeframe = serializers.SerializerMethodField()
    macro_series = serializers.SerializerMethodField()
    parameter_rules = serializers.SerializerMethodField()
    is_certified = serializers.SerializerMethodField()

    class Meta:
        model = StrategyConfig
        fields = [
            "name", "is_enabled", "weight", "assets", "timeframe", "macro_series", "parameters",
            "parameter_rules", "is_certified", "certified_at", "certificate_hash",
            "certificate_detail",
        ]  # fmt: skip

    @extend_schema_field(OpenApiTypes.STR)
    def get_timeframe(self, config: StrategyConfig) -> str:
        return strategy_type(config.name).timeframe

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_macro_series(self, config: StrategyConfig) -> list[str]:
        return list(strategy_type(config.name).macro_series)

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_parameter_rules(self, config: StrategyConfig) -> dict[str, Any]:
        """By name: the default, the inclusive range, the unit and the meaning."""
        return {
            rule.name: {
                "default": PRESETS[config.name].parameters.get(rule.name, rule.default),
                "low": rule.low,
                "high": rule.high,
                "unit": rule.unit,
                "text": rule.text,
            }
            for rule in parameter_rules(strategy_type(config.name))
        }

    @extend_schema_field(OpenApiTypes.BOOL)
    def get_is_certified(self, config: StrategyConfig) -> bool:
        return services.has_certificate(config)


class StrategyList(generics.ListAPIView[StrategyConfig]):
    """Every registered strategy."""

    serializer_class = StrategySerializer
    pagination_class = None
    filter_backends = ()

    def get_queryset(self) -> Any:
        return StrategyConfig.objects.filter(name__in=STRATEGIES)


class StrategyView(APIView):
    """One strategy's settings."""

    class InputSerializer(serializers.Serializer[dict[str, Any]]):
        is_enabled = serializers.BooleanField(required=False)
        parameters = serializers.DictField(required=False)
        weight = serializers.FloatField(required=False)

    @extend_schema(request=InputSerializer, responses=StrategySerializer)
    def patch(self, request: Request, name: str) -> Response:
        """Change what is given; parameters replace the stored ones and are certified first."""
        form = self.InputSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        try:
            config = services.configure_strategy(name=name, **form.validated_data)
        except UnknownStrategy as error:
            raise NotFound(str(error)) from None
        except ParameterError as error:
            raise serializers.ValidationError(
                {field: [text] for field, text in error.fields.items()}
            ) from None
        except services.StrategyNotCertified as error:
            raise serializers.ValidationError({"is_enabled": [str(error)]}) from None
        return Response(StrategySerializer(config).data)


def _own_timeframe(name: str) -> str:
    """A strategy's timeframe; for the consensus that of the first strategy."""
    names = list(STRATEGIES) if name == CONSENSUS else [name]
    return strategy_type(names[0]).timeframe


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


urlpatterns = [
    path("signals/", SignalList.as_view(), name="signals"),
    path("signals/current/", CurrentSignalList.as_view(), name="signals-current"),
    path("signals/generate/", GenerateView.as_view(), name="signals-generate"),
    path("strategies/", StrategyList.as_view(), name="strategies"),
    path("strategies/<slug:name>/", StrategyView.as_view(), name="strategy"),
]
