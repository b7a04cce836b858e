"""HTTP: the strategies as they are set, and the changes of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from signals import services
from signals.models import StrategyChange, StrategyConfig
from signals.parameters import ParameterError, parameter_rules
from signals.registry import PRESETS, STRATEGIES, UnknownStrategy, strategy_type


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
        assets = serializers.ListField(
            child=serializers.CharField(), required=False, max_length=1000
        )

    @extend_schema(responses=StrategySerializer)
    def get(self, request: Request, name: str) -> Response:
        """The strategy as it is set."""
        return Response(StrategySerializer(_stored(name)).data)

    @extend_schema(request=InputSerializer, responses=StrategySerializer)
    def patch(self, request: Request, name: str) -> Response:
        """Change what is given; parameters replace the stored ones and are certified first.
        `assets` are coin ids; an empty list means all that there are."""
        form = self.InputSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        with _refusals():
            config = services.configure_strategy(
                name=name, by=request.user.get_username(), **form.validated_data
            )
        return Response(StrategySerializer(config).data)


class CertifyView(APIView):
    """A strategy's certificate, made anew."""

    @extend_schema(request=None, responses=StrategySerializer)
    def post(self, request: Request, name: str) -> Response:
        """Certify with the stored parameters; a strategy that fails is disabled."""
        with _refusals():
            config, _ = services.certify_strategy(name=name, by=request.user.get_username())
        return Response(StrategySerializer(config).data)


class ChangeSerializer(serializers.ModelSerializer[StrategyChange]):
    """Who changed what; `changes` maps what was changed to its `old` and its `new` value."""

    changes = serializers.DictField()

    class Meta:
        model = StrategyChange
        fields = ["id", "at", "by", "changes"]


class ChangeList(generics.ListAPIView[StrategyChange]):
    """All changes of a strategy's settings, newest first."""

    serializer_class = ChangeSerializer
    filter_backends = ()

    def get_queryset(self) -> QuerySet[StrategyChange]:
        """Those of the named strategy."""
        if getattr(self, "swagger_fake_view", False):
            return StrategyChange.objects.none()
        return StrategyChange.objects.filter(strategy=_stored(self.kwargs["name"]))


def _stored(name: str) -> StrategyConfig:
    """The row of a registered strategy. Raises NotFound."""
    with _refusals():
        strategy_type(name)
    return get_object_or_404(StrategyConfig, name=name)


@contextmanager
def _refusals() -> Iterator[None]:
    """What a service refuses, as the answer to the request that asked for it."""
    try:
        yield
    except UnknownStrategy as error:
        raise NotFound(str(error)) from None
    except ParameterError as error:
        raise serializers.ValidationError(
            {field: [text] for field, text in error.fields.items()}
        ) from None
    except services.StrategyNotCertified as error:
        raise serializers.ValidationError({"is_enabled": [str(error)]}) from None
