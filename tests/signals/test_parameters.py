"""Declared parameters: what fits, and what each fault says."""

from pathlib import Path

import pytest

import signals.presets
from signals.parameters import ParameterError, build_with, parameter_rules
from signals.registry import PRESETS, STRATEGIES, build_strategy


def test_given_values_replace_defaults():
    strategy = build_strategy("mean_reversion", {"vix_threshold": 30, "hold_bars": 12.0})
    parameters = strategy.get_parameters()
    assert parameters["vix_threshold"] == 30.0
    assert parameters["hold_bars"] == 12
    assert isinstance(parameters["hold_bars"], int)
    assert parameters["rsi_period"] == 14


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vix": 1}, "vix: unknown; known: vix_threshold"),
        ({"vix_threshold": 500}, "500 is outside 5 to 100 index points"),
        ({"vix_threshold": "high"}, "'high' is not a finite number"),
        ({"vix_threshold": True}, "True is not a finite number"),
        ({"vix_threshold": float("nan")}, "nan is not a finite number"),
        ({"hold_bars": 2.5}, "2.5 is not a whole number of bars"),
    ],
)
def test_a_fault_is_named(values, message):
    with pytest.raises(ParameterError, match=message):
        build_strategy("mean_reversion", values)


def test_every_fault_is_named_at_once():
    with pytest.raises(ParameterError) as caught:
        build_strategy("mean_reversion", {"vix_threshold": 500, "hold_bars": -1, "x": 0})
    assert set(caught.value.fields) == {"vix_threshold", "hold_bars", "x"}


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_parameter_is_declared_and_has_a_value_in_the_preset(name):
    rules = parameter_rules(STRATEGIES[name])
    assert set(PRESETS[name].parameters) == {rule.name for rule in rules}
    assert dict(build_strategy(name).get_parameters()) == PRESETS[name].parameters
    assert all(rule.unit and rule.text for rule in rules)


def test_there_is_no_preset_of_nothing():
    folder = Path(signals.presets.__file__).parent / "defaults"
    assert {path.stem for path in folder.glob("*.json")} == set(STRATEGIES)


def test_a_parameter_without_any_value_is_named():
    with pytest.raises(ParameterError, match="vix_threshold: not given"):
        build_with(STRATEGIES["mean_reversion"], {})
