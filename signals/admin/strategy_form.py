"""The form of a strategy's settings: a field for each parameter that the strategy declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelect2MultipleWidget,
)

from collectors.models import Instrument
from signals import services
from signals.catalog import build_strategy, facts_of
from signals.models import StrategyConfig
from signals.parameters import ParameterError, ParameterRule
from signals.registry import PRESETS, UnknownStrategy

PREFIX = "parameter_"


class StrategyForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a person may type in; it is refused for the same reasons as by the service."""

    assets = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget,
        help_text="The instruments that it speaks of; all that there are when none is chosen.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "assets" in self.fields:
            coin_ids = Instrument.objects.order_by("coin_id").values_list("coin_id", flat=True)
            choices = list(dict.fromkeys([*coin_ids, *self.instance.assets]))
            self.fields["assets"].choices = [(each, each) for each in choices]  # type: ignore[attr-defined]
        for name, value in parameters_in_force(self.instance).items():
            self.initial[f"{PREFIX}{name}"] = value

    def clean_weight(self) -> float:
        weight: float = self.cleaned_data["weight"]
        self._check("weight", lambda: services.check_weight(weight))
        return weight

    def clean_assets(self) -> list[str]:
        assets: list[str] = self.cleaned_data["assets"]
        self._check("assets", lambda: services.check_assets(assets))
        return assets

    def clean(self) -> dict[str, Any] | None:
        """Every parameter against its declared range, each fault at its field."""
        name = self.instance.name
        try:
            build_strategy(name, self.typed_parameters())
        except UnknownStrategy as error:
            raise forms.ValidationError(str(error)) from None
        except ParameterError as error:
            for parameter, text in error.fields.items():
                field = f"{PREFIX}{parameter}"
                if field not in self.errors:
                    self.add_error(field if field in self.fields else None, text)
        return super().clean()

    def typed_parameters(self) -> dict[str, float | int]:
        """The parameters as typed in, without those that are as in the preset."""
        preset = preset_values(self.instance.name)
        typed = {name: self.cleaned_data.get(f"{PREFIX}{name}") for name in preset}
        return {
            name: value
            for name, value in typed.items()
            if value is not None and value != preset[name]
        }

    def wanted_changes(self) -> dict[str, Any]:
        """What differs from the stored row, as the service takes it."""
        before = StrategyConfig.objects.get(pk=self.instance.pk)
        changes: dict[str, Any] = {
            name: self.cleaned_data[name]
            for name in ("weight", "assets")
            if name in self.cleaned_data and self.cleaned_data[name] != getattr(before, name)
        }
        typed, preset = self.typed_parameters(), preset_values(before.name)
        is_strange = bool(before.parameters.keys() - preset.keys())  # a changed file declares less
        if is_strange or {**preset, **typed} != parameters_in_force(before):
            changes["parameters"] = typed
        return changes

    def _check(self, name: str, check: Any) -> None:
        try:
            check()
        except ParameterError as error:
            raise forms.ValidationError(error.fields[name]) from None


def form_for(config: StrategyConfig) -> type[StrategyForm]:
    """The form class of one strategy."""
    fields = {f"{PREFIX}{rule.name}": _field(rule, config.name) for rule in declared(config.name)}
    return type("StrategyForm", (StrategyForm,), fields)


def parameter_fields(config: StrategyConfig) -> list[str]:
    """The names of the form's fields for parameters."""
    return [f"{PREFIX}{rule.name}" for rule in declared(config.name)]


def declared(name: str) -> list[ParameterRule]:
    """The parameters of a strategy; none of one that there is not any more."""
    try:
        return list(facts_of(name).rules)
    except UnknownStrategy:
        return []


def preset_values(name: str) -> dict[str, float | int | None]:
    """Every declared parameter as it is without stored ones."""
    preset: Mapping[str, Any] = PRESETS[name].parameters if name in PRESETS else {}
    return {rule.name: preset.get(rule.name, rule.default) for rule in declared(name)}


def parameters_in_force(config: StrategyConfig) -> dict[str, Any]:
    """Every declared parameter with its value."""
    return {
        name: config.parameters.get(name, value)
        for name, value in preset_values(config.name).items()
    }


def _field(rule: ParameterRule, strategy: str) -> forms.Field:
    preset = preset_values(strategy)[rule.name]
    bounds = f"{rule.low:g} to {rule.high:g} {rule.unit}"
    default = "" if preset is None else f"; preset {preset:g}"
    options: dict[str, Any] = {
        "required": False,
        "label": rule.name.replace("_", " "),
        "help_text": f"{rule.text}: {bounds}{default}",
    }
    # The range is the service's to judge: its words are the same everywhere.
    if rule.is_whole:
        return forms.IntegerField(widget=UnfoldAdminIntegerFieldWidget, **options)
    widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any"})
    return forms.FloatField(widget=widget, **options)
