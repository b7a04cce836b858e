"""HTTP: the strategies as they are set, and the changes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import generics, serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from collectors.once import once
from signals import catalog, services
from signals.models import BarRun, RunState, StrategyChange, StrategyConfig
from signals.parameters import ParameterError
from signals.presets import Preset
from signals.registry import PRESETS, STRATEGIES, UnknownStrategy
from signals.standing import CertificateState, certificate_state
from signals.track_record import StrategyHealth, strategy_health

NO_PRESET = Preset(assets=(), weight=1.0, parameters={})  # what a file's strategy starts with


class RuleSerializer(serializers.Serializer[Any]):
    """One declared parameter: the preset's value, the inclusive range, the unit, the meaning."""

    default = serializers.FloatField(allow_null=True)
    low = serializers.FloatField()
    high = serializers.FloatField()
    unit = serializers.CharField()
    text = serializers.CharField()


class PresetSerializer(serializers.Serializer[Any]):
    """What a strategy starts with."""

    assets = serializers.ListField(child=serializers.CharField())
    weight = serializers.FloatField()
    parameters = serializers.DictField()


class HealthSerializer(serializers.Serializer[Any]):
    """How a strategy's newest runs went, at most a hundred; seconds are wall time."""

    runs = serializers.IntegerField()
    failures = serializers.IntegerField()
    consecutive_failures = serializers.IntegerField()
    last_failure = serializers.CharField()
    last_failure_at = serializers.DateTimeField(allow_null=True)
    seconds = serializers.FloatField(allow_null=True)
    slowest_seconds = serializers.FloatField(allow_null=True)


class LastRunSerializer(serializers.Serializer[Any]):
    """What became of a strategy at the newest finished run of its timeframe.

    `withheld` says for each coin why the bar could not be computed; `*` is every one.
    """

    bar_open_time = serializers.DateTimeField()
    is_complete = serializers.BooleanField()
    failure = serializers.CharField(allow_null=True)
    withheld = serializers.DictField(child=serializers.CharField())


class StrategySerializer(serializers.ModelSerializer[StrategyConfig]):
    """A strategy as it is set, with the declaration of its parameters, and how it does.

    `parameters` are the stored ones, `parameters_in_force` these over the preset's. `certificate`
    tells the newest certificate in words; `is_certified` whether it is for the present code and
    parameters. Null `health` and `last_run`: it has not run.
    """

    timeframe = serializers.SerializerMethodField()
    macro_series = serializers.SerializerMethodField()
    parameters_in_force = serializers.SerializerMethodField()
    parameter_rules = serializers.SerializerMethodField()
    preset = serializers.SerializerMethodField()
    is_certified = serializers.SerializerMethodField()
    certificate = serializers.CharField(source="certificate_verdict", read_only=True)
    health = serializers.SerializerMethodField()
    last_run = serializers.SerializerMethodField()
    certificate_state = serializers.SerializerMethodField()
    pending = serializers.DictField(read_only=True)

    class Meta:
        model = StrategyConfig
        fields = [
            "name", "is_enabled", "weight", "assets", "timeframe", "macro_series", "parameters",
            "parameters_in_force", "parameter_rules", "preset", "is_wanted", "pending",
            "is_certified", "certificate", "certificate_state", "certified_at", "certificate_hash",
            "certificate_detail", "health", "last_run", "origin", "load_error", "loaded_at",
        ]  # fmt: skip

    def get_timeframe(self, config: StrategyConfig) -> str:
        """The bars that it runs on."""
        return _facts(config.name).timeframe

    def get_macro_series(self, config: StrategyConfig) -> list[str]:
        """The macro series that it reads."""
        return list(_facts(config.name).macro_series)

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_parameters_in_force(self, config: StrategyConfig) -> dict[str, Any]:
        """Every parameter's value."""
        return {**_preset_values(config.name), **config.parameters}

    @extend_schema_field(serializers.DictField(child=RuleSerializer()))
    def get_parameter_rules(self, config: StrategyConfig) -> dict[str, Any]:
        """By name: what the parameter may be."""
        facts = _facts(config.name)
        values = facts.defaults
        return {
            rule.name: {
                "default": values[rule.name],
                "low": rule.low,
                "high": rule.high,
                "unit": rule.unit,
                "text": rule.text,
            }
            for rule in facts.rules
        }

    @extend_schema_field(PresetSerializer)
    def get_preset(self, config: StrategyConfig) -> dict[str, Any]:
        """What it starts with."""
        preset = PRESETS.get(config.name, NO_PRESET)
        values = _preset_values(config.name)
        return {"assets": list(preset.assets), "weight": preset.weight, "parameters": values}

    def get_is_certified(self, config: StrategyConfig) -> bool:
        """Whether it may be enabled; not when the stored parameters have become invalid."""
        try:
            return services.has_certificate(config)
        except ParameterError:
            return False

    @extend_schema_field(serializers.ChoiceField(choices=[each.value for each in CertificateState]))
    def get_certificate_state(self, config: StrategyConfig) -> str:
        """Whether it may run, or is being certified."""
        return certificate_state(config).value

    @extend_schema_field(HealthSerializer(allow_null=True))
    def get_health(self, config: StrategyConfig) -> dict[str, Any] | None:
        """How its newest runs went."""
        found = self._of_timeframe(config, "health", _health_by_name).get(config.name)
        return None if found is None else HealthSerializer(found).data

    @extend_schema_field(LastRunSerializer(allow_null=True))
    def get_last_run(self, config: StrategyConfig) -> dict[str, Any] | None:
        """What became of it at the newest finished run."""
        run: BarRun | None = self._of_timeframe(config, "last_run", _newest_run)
        if run is None or config.name not in {*run.durations, *run.failures}:
            return None
        found = {
            "bar_open_time": run.bar_open_time,
            "is_complete": run.is_complete,
            "failure": run.failures.get(config.name),
            "withheld": run.withheld.get(config.name, {}),
        }
        return LastRunSerializer(found).data

    def _of_timeframe(self, config: StrategyConfig, what: str, read: Callable[[str], Any]) -> Any:
        """What is the same for all strategies of a timeframe, read once for each answer."""
        timeframe = _facts(config.name).timeframe
        context = cast(dict[str, Any], self.context)
        known: dict[str, Any] = context.setdefault(f"{what}_of_timeframe", {})
        if timeframe not in known:
            known[timeframe] = read(timeframe)
        return known[timeframe]


def _preset_values(name: str) -> dict[str, Any]:
    """Every parameter of a strategy as it is without stored ones."""
    return dict(_facts(name).defaults)


def _facts(name: str) -> catalog.Facts:
    """What is declared; nothing of a file that could not be loaded."""
    try:
        return catalog.facts_of(name)
    except catalog.StrategyNotLoaded:
        return catalog.Facts(timeframe="", macro_series=(), rules=(), defaults={})


def _health_by_name(timeframe: str) -> dict[str, StrategyHealth]:
    return {each.strategy: each for each in strategy_health(timeframe=timeframe)}


def _newest_run(timeframe: str) -> BarRun | None:
    runs = BarRun.objects.filter(timeframe=timeframe, state=RunState.DONE)
    return runs.order_by("-bar_open_time").first()


class StrategyList(generics.ListAPIView[StrategyConfig]):
    """Every registered strategy."""

    serializer_class = StrategySerializer
    pagination_class = None
    filter_backends = ()

    def get_queryset(self) -> Any:
        """The rows of the strategies that there are."""
        return StrategyConfig.objects.filter(name__in=catalog.strategy_names())


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

    @once
    @extend_schema(request=InputSerializer, responses=StrategySerializer)
    def patch(self, request: Request, name: str) -> Response:
        """Change what is given. Parameters replace the stored ones when they are certified, until
        then they are `pending`; a strategy that is enabled before that begins with it. `assets`
        are coin ids; an empty list means all that there are."""
        form = self.InputSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        with _refusals():
            config = services.configure_strategy(
                name=name, by=request.user.get_username(), **form.validated_data
            )
        return Response(StrategySerializer(config).data)


class CertifyView(APIView):
    """A strategy's certificate, made anew."""

    @once
    @extend_schema(request=None, responses={202: StrategySerializer})
    def post(self, request: Request, name: str) -> Response:
        """Have it certified in the background, with the stored parameters: `pending` until then. A
        strategy that fails is disabled."""
        with _refusals():
            config = services.ask_for_certificate(name=name, by=request.user.get_username())
        return Response(
            StrategySerializer(config).data,
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": reverse("strategy", args=[config.name])},
        )


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
        if name not in STRATEGIES:
            return catalog.config_of(name)
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
